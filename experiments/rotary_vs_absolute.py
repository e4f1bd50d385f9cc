"""What does rotary position encoding do that learned absolute positions do not?"""

from neolens.studies import main, study

if __name__ == "__main__":
    main(study("rotary_vs_absolute"))
