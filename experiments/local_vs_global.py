"""Where do local and global layers look, and what is copied from far back?"""

from neolens.studies import find_study, main

if __name__ == "__main__":
    main(find_study("local_vs_global"))
