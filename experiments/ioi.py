"""Which heads find the indirect object, and through what?"""

from neolens.studies import find_study, main

if __name__ == "__main__":
    main(find_study("ioi"))
