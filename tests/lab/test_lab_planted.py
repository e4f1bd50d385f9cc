"""Planted questions: the answer at exactly the distance asked for, found by the rules of `test_lab_language`."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from neolens.lab import folder
from neolens.lab.evaluation.competence import DISTANCES, REACHES, at_distance, by_distance, by_reach, competence
from neolens.lab.language.documents import KINDS
from neolens.lab.language.planted import NEAREST, TASKS, farthest, planted
from neolens.lab.language.words import BOS_ID, CLASSES, FIRST_WORD, VOCABULARY
from test_lab_language import NAMES, SENTENCE, by_elimination, by_grammar, by_induction, by_key, places, text

RULES = {"induction": by_induction, "recall": by_key, "indirect_object": by_elimination}

# Worked by hand. Nearest: in "a b a" b stands 1 before the second a; in "for Mary corn , for Mary" corn stands 3
# before the second Mary; in "and John went to the market , Mary gave the corn to" John stands 10 before the last to.
# Farthest in 128 tokens: besides BOS and the answer itself there is to be room for the seven words before the
# eighth of a segment and the query (128 - 2 - 8), for four facts "for Mary corn ," up to the last value and the
# query (128 - 2 - 15), for "when Mary and" and the query (128 - 2 - 4).
LIMITS = {"induction": (1, 118), "recall": (3, 111), "indirect_object": (10, 122)}

tasks, seeds = st.sampled_from(TASKS), st.integers(0, 2**32)
many = settings(max_examples=80, deadline=None)


@st.composite
def askable(draw, prompts=3):
    """The prompts of a task at a distance that has room in a length, and the distance."""
    task, length = draw(tasks), draw(st.integers(20, 140))
    assume(farthest(task, length) >= NEAREST[task])
    distance = draw(st.integers(NEAREST[task], farthest(task, length)))
    return planted(task, distance, length=length, prompts=prompts, seed=draw(seeds)), distance, length


def each(asked):
    """Every prompt as its words, its answer and its places."""
    for row, words in enumerate(map(text, asked.tokens)):
        yield words, VOCABULARY[asked.answer[row]], {name: int(at[row]) for name, at in asked.positions.items()}


@many
@given(askable())
def test_the_answer_stands_exactly_the_distance_before_the_query_and_right_after_it(drawn):
    asked, distance, length = drawn
    assert asked.tokens.shape == (3, length)
    assert asked.distance == distance
    for words, answer, at in each(asked):
        assert at["query"] - at["source"] == distance
        assert words[at["source"]] == words[at["query"] + 1] == answer


@many
@given(askable())
def test_a_prompt_is_one_bos_and_then_words_only(drawn):
    asked, _, _ = drawn
    assert (asked.tokens[:, 0] == BOS_ID).all()
    assert (asked.tokens[:, 1:] >= FIRST_WORD).all()


@many
@given(askable())
def test_the_rule_of_the_task_finds_the_answer_from_the_words_before_it(drawn):
    asked, _, _ = drawn
    for words, answer, at in each(asked):
        assert RULES[asked.task](words[: at["query"] + 1]) == answer


@many
@given(askable())
def test_no_nearer_place_holds_what_the_rule_needs(drawn):
    """With the answer's place made another word, the rule says that word: it is the one that is copied."""
    asked, _, _ = drawn
    for words, answer, at in each(asked):
        other = next(word for word in CLASSES["name"] if word not in words)
        changed = [*words[: at["source"]], other, *words[at["source"] + 1 : at["query"] + 1]]
        assert RULES[asked.task](changed) == other != answer


@many
@given(askable())
def test_the_named_places_hold_what_their_names_say(drawn):
    asked, _, _ = drawn
    for row, (words, answer, at) in enumerate(each(asked)):
        distractor = VOCABULARY[asked.distractor[row]]
        assert distractor != answer
        if asked.task == "induction":
            assert set(at) == {"previous", "source", "query"}
            assert at["previous"] == at["source"] - 1
            assert words[at["previous"]] == words[at["query"]]
            assert distractor in words[: at["previous"] + 1]
        elif asked.task == "recall":
            assert set(at) == {"key", "source", "query"}
            assert at["key"] == at["source"] - 1
            assert words[at["key"]] == words[at["query"]] in NAMES
            facts = [(words[i + 1], words[i + 2]) for i in places(words[: at["query"] - 1], "for")]
            assert len(dict(facts)) == len(facts) == 4
            assert len({value for _, value in facts}) == 4
            assert distractor in dict(facts).values()
            assert answer in CLASSES["object"]
        else:
            assert set(at) == {"first_giver", "second_giver", "source", "query"}
            assert words[at["first_giver"]] == words[at["second_giver"]] == distractor
            assert {answer, distractor} <= NAMES
            (when,) = places(words, "when")
            assert {at["first_giver"], at["source"]} == {when + 1, when + 3}
            assert words[at["second_giver"] : at["query"] + 1 : 4] == [distractor, "to"]


@many
@given(st.integers(1, 118), seeds)
def test_the_words_of_an_induction_segment_stand_nowhere_else(distance, seed):
    asked = planted("induction", distance, prompts=3, seed=seed)
    for words, answer, at in each(asked):
        n = min(8, distance + 1)
        segment = words[at["source"] - n + 1 : at["source"] + 1]
        assert len(set(segment)) == n
        assert words[at["query"] - n + 2 : at["query"] + 2] == [*segment[:-1], answer]
        assert all(words.count(word) == 2 for word in segment)
        assert not {*CLASSES["particle"], "."} & set(words)


@many
@given(st.sampled_from(["recall", "indirect_object"]), st.integers(10, 111), seeds)
def test_the_surroundings_of_a_list_or_a_story_are_background_without_names(task, distance, seed):
    asked = planted(task, distance, prompts=3, seed=seed)
    for words, _, at in each(asked):
        begins = places(words, {"recall": "for", "indirect_object": "when"}[task])[0]
        for outside in (words[1:begins], words[at["query"] + 2 :]):
            for back, word in enumerate(reversed(outside)):  # sentences, from the last full stop to the front
                assert word in CLASSES[SENTENCE[-1 - back % 7]]


@many
@given(st.integers(10, 122), seeds)
def test_between_a_story_and_its_gift_stands_background_that_its_grammar_tells(distance, seed):
    asked = planted("indirect_object", distance, prompts=2, seed=seed)
    for words, _, at in each(asked):
        (when,) = places(words, "when")
        between = words[when + 9 : at["second_giver"]]
        for back, word in enumerate(reversed(between)):
            assert word in CLASSES[SENTENCE[-1 - back % 7]]
        for end in range(2, len(between)):
            if by_grammar(between[:end]) is not None:
                assert by_grammar(between[:end]) == between[end]


@pytest.mark.parametrize(("task", "distance"), [("induction", 30), ("recall", 30), ("indirect_object", 30)])
def test_questions_stand_all_over_the_prompt(task, distance):
    asked = planted(task, distance, prompts=300)
    needed = {"induction": 8 + distance, "recall": 16 + distance, "indirect_object": 4 + distance}[task]
    query = asked.positions["query"]
    assert query.min() < needed + 6  # soon after the beginning
    assert query.max() > 126 - 6  # the answer near the end
    assert len(set(query.tolist())) > 40


def test_every_fact_of_a_list_is_asked_and_both_names_of_a_story_receive():
    recall, story = planted("recall", 40, prompts=200), planted("indirect_object", 40, prompts=200)
    asked_fact = [places(words, "for").index(at["key"] - 1) for words, _, at in each(recall)]
    first_receives = [at["source"] < at["first_giver"] for _, _, at in each(story)]
    assert all(abs(asked_fact.count(fact) - 50) < 25 for fact in range(4))  # four deviations of a fair draw
    assert abs(sum(first_receives) - 100) < 29


def test_near_by_the_second_name_of_a_story_receives():
    """At distance 10 or 11 the first name, two words farther, has no room."""
    for distance in (10, 11):
        assert all(at["source"] > at["first_giver"] for _, _, at in each(planted("indirect_object", distance)))


@many
@given(tasks, st.integers(10, 111), seeds)
def test_the_same_seed_asks_the_same_and_another_seed_something_else(task, distance, seed):
    one, two, other = (planted(task, distance, prompts=2, seed=s) for s in (seed, seed, seed + 1))
    assert np.array_equal(one.tokens, two.tokens)
    assert all(np.array_equal(one.positions[name], two.positions[name]) for name in one.positions)
    assert not np.array_equal(one.tokens, other.tokens)


def test_more_prompts_leave_the_first_ones_as_they_were():
    few, more = (planted("recall", 20, prompts=prompts) for prompts in (3, 8))
    assert np.array_equal(few.tokens, more.tokens[:3])
    assert len({row.tobytes() for row in more.tokens}) == 8


def test_tasks_and_distances_ask_different_texts():
    drawn = [planted(task, distance, prompts=1).tokens.tobytes() for task in TASKS for distance in (20, 21)]
    assert len(set(drawn)) == 6


# ----------------------------------------------------------------------------------------------------
# Limits
# ----------------------------------------------------------------------------------------------------


def test_the_limits_are_those_worked_out_by_hand():
    assert {task: (NEAREST[task], farthest(task, 128)) for task in TASKS} == LIMITS


@pytest.mark.parametrize("task", TASKS)
def test_the_nearest_and_the_farthest_question_can_be_asked(task):
    for distance in LIMITS[task]:
        asked = planted(task, distance, prompts=20)
        assert (asked.positions["query"] - asked.positions["source"] == distance).all()


@pytest.mark.parametrize("task", TASKS)
def test_the_farthest_question_fills_the_prompt(task):
    """BOS, the question from its first word, its answer, and nothing else, in the prompts that need most."""
    begins = {"induction": lambda at: at["source"] - 7, "recall": lambda at: at["source"] - 14}
    begins["indirect_object"] = lambda at: at["source"] - 3
    ends = [(begins[task](at), at["query"]) for _, _, at in each(planted(task, LIMITS[task][1], prompts=20))]
    assert (1, 126) in ends


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("end", ["below", "above"])
def test_a_distance_outside_the_limits_is_refused(task, end):
    nearest, far = LIMITS[task]
    distance = nearest - 1 if end == "below" else far + 1
    message = f"{task} at distance {distance}: in 128 tokens it can be asked at {nearest} to {far}"
    with pytest.raises(ValueError, match=message):
        planted(task, distance)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="no task 'copying': expected induction, recall or indirect_object"):
        planted("copying", 10)


@pytest.mark.parametrize("prompts", [0, -1])
def test_no_prompts_are_refused(prompts):
    with pytest.raises(ValueError, match=f"{prompts} prompts: at least 1 is needed"):
        planted("recall", 10, prompts=prompts)


# ----------------------------------------------------------------------------------------------------
# Networks that are known to solve the tasks, or to solve them within reach only
# ----------------------------------------------------------------------------------------------------


class Rules(PreTrainedModel):
    """A network that follows the rules of the tasks, by words no farther back than `reach`."""

    config_class = PreTrainedConfig

    def __init__(self, reach=None, context=128):
        config = PreTrainedConfig()
        config.max_position_embeddings = context
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.reach = reach

    def says(self, before):
        """The next word: by key, by elimination, by induction, or by grammar, the first that has an answer."""
        kept = before if self.reach is None else before[-1 - self.reach :]
        try:
            said = by_key(kept) or by_elimination(kept)
        except IndexError:  # the story is out of sight
            return "."
        return said or by_induction(kept) or by_grammar(kept) or "."

    def forward(self, tokens):
        logits = torch.zeros(*tokens.shape, len(VOCABULARY))
        for row, ids in enumerate(tokens.tolist()):
            words = text(ids)
            for at in range(len(words)):
                logits[row, at, VOCABULARY.index(self.says(words[: at + 1]))] = 1.0
        return CausalLMOutput(logits=logits)


def test_a_network_that_follows_the_rules_is_always_right():
    found = by_distance(Rules(), (4, 12, 88), prompts=4)
    assert found == {
        "induction": {"4": 1.0, "12": 1.0, "88": 1.0},
        "recall": {"4": 1.0, "12": 1.0, "88": 1.0},
        "indirect_object": {"12": 1.0, "88": 1.0},
    }


@pytest.mark.parametrize("task", ["induction", "recall"])
def test_a_network_that_sees_sixteen_tokens_is_right_to_distance_fifteen(task):
    """What is copied stands 15 back at the farthest, and what it followed one farther."""
    sees = Rules(reach=16)
    assert at_distance(sees, task, 15 - (task == "recall"), prompts=6) == 1.0
    assert at_distance(sees, task, 17, prompts=6) < 0.5


def test_a_network_that_is_right_in_some_prompts_scores_their_share():
    class Sometimes(Rules):
        def forward(self, tokens):
            logits = super().forward(tokens).logits
            logits[1::4] = 0.0  # says BOS
            return CausalLMOutput(logits=logits)

    assert at_distance(Sometimes(), "induction", 20, prompts=8) == 6 / 8


@pytest.mark.parametrize("name", ["lab/gpt-neo", "lab/pythia", "lab/nope@2"])
def test_short_batches_give_the_accuracy_of_whole_prompts_in_one_batch(name):
    """Of 40 prompts, two batches of 16 and one of 8, each cut after its last query."""
    model = AutoModelForCausalLM.from_pretrained(folder(name), attn_implementation="eager")
    asked = planted("indirect_object", 72, prompts=40, seed=5)
    with torch.no_grad():
        logits = model(torch.from_numpy(asked.tokens)).logits
    right = [
        logits[prompt, asked.positions["query"][prompt]].argmax().item() == asked.answer[prompt] for prompt in range(40)
    ]
    assert 0 < sum(right) < 40
    assert at_distance(model, "indirect_object", 72, prompts=40, seed=5) == sum(right) / 40


def test_reach_is_the_mean_over_the_distances_inside_beyond_and_unseen():
    """The window sees 16 tokens, the one that predicts among them; in training no answer is farther back than 64."""
    found = {"recall": {str(d): float(d) for d in DISTANCES}, "induction": {"4": 0.5, "15": 1.0}}
    inside, beyond, unseen = [4, 8, 12, 15], [16, 20, 24, 32, 48, 64], [72, 88, 104]
    assert {name: list(distances) for name, distances in REACHES.items()} == {
        "inside": inside,
        "beyond": beyond,
        "unseen": unseen,
    }
    # 39 / 4, 204 / 6, 264 / 3
    assert by_reach(found) == {
        "recall": {"inside": 9.75, "beyond": 34.0, "unseen": 88.0},
        "induction": {"inside": 0.75},
    }


def test_a_perfect_network_has_a_perfect_table_without_holes():
    told = competence(Rules(context=36), prompts=2)
    values = [value for part in told.values() for task in part.values() for value in task.values()]
    documents = told["documents"]["accuracy"]
    assert set(documents) == set(KINDS)
    by_other_rules = {"background", "indirect_object"}  # where induction, which comes first, says another word
    assert {value for kind, value in documents.items() if kind not in by_other_rules} == {1.0}
    assert set(told["distance"]["induction"]) == {"4", "8", "12", "15", "16", "20", "24"}  # 36 - 10 at the farthest
    assert set(told["repeats"]["induction"]) == {"4", "8", "12", "16"}  # BOS and two copies in 36 tokens
    rest = [told["distance"], told["reach"], told["repeats"]]
    assert {value for part in rest for task in part.values() for value in task.values()} == {1.0}
    assert all(0 <= value <= 1 for value in values)
    assert all(len(part) for part in itertools.chain(told.values()))
