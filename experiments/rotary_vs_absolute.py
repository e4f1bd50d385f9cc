"""What does rotary position encoding do that learned absolute positions do not?"""

from neolens.studies import find_study, main

if __name__ == "__main__":
    main(find_study("rotary_vs_absolute"))
