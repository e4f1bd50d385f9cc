"""Which heads find the indirect object, and through what?"""

from neolens.studies import main, study

if __name__ == "__main__":
    main(study("ioi"))
