"""Where do local and global layers look, and what is copied from far back?"""

from neolens.studies import main, study

if __name__ == "__main__":
    main(study("local_vs_global"))
