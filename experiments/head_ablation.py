"""What are local and global heads needed for, near and far?"""

from neolens.studies import find_study, main

if __name__ == "__main__":
    main(find_study("head_ablation"))
