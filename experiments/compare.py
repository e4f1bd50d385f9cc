"""What do local attention layers do that global ones do not, and rotary positions that learned absolute ones do not?"""

from neolens.studies import find_study, main

if __name__ == "__main__":
    main(find_study("compare"))
