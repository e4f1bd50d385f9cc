"""The tokenizer of the lab's language: one word, one token, split at white space.

An ordinary Hugging Face tokenizer that is saved beside every network, so that public code reads it. It adds
no BOS by itself. A word outside the language becomes `<unk>`, which training texts never hold, so a network
says nothing useful about it.
"""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from neolens.checks import check_whole
from neolens.lab.language.words import BOS, UNK, VOCABULARY


def tokenizer(context: int) -> PreTrainedTokenizerFast:
    """The tokenizer for a network of `context` positions. BOS also ends a document, as in GPT-2."""
    context = check_whole(context, "context", 1, 2**31 - 1)
    words = Tokenizer(WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token=UNK))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token=BOS,
        eos_token=BOS,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        model_max_length=context,
    )
