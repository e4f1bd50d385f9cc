"""Which heads are induction heads, by pattern and by cause, near and far, and over training?"""

from neolens.studies import main, study

if __name__ == "__main__":
    main(study("induction"))
