"""Which heads are induction heads, by pattern and by cause, near and far, and over training?"""

from neolens.studies import find_study, main

if __name__ == "__main__":
    main(find_study("induction"))
