"""Does an answer from far back arrive, and which layers bring it, in one hop or in several?"""

from neolens.studies import main, study

if __name__ == "__main__":
    main(study("window_reach"))
