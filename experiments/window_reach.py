"""Does an answer from far back arrive, and which layers bring it, in one hop or in several?"""

from neolens.studies import find_study, main

if __name__ == "__main__":
    main(find_study("window_reach"))
