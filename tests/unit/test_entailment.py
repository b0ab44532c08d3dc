"""When one sentence makes another true: literal pairs, aspect by aspect, and what holds for every pair of statements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.findings import NO_FINDING, PATHOLOGIES, Laterality, Polarity, Progression
from knowledge_base.records import Mention
from rag_service.report.aspects import GRADES, LOWER, UPPER, WHOLES, Aspect, Verdict, within
from rag_service.report.cues import LOCATIONS, SEVERITIES
from rag_service.report.entailment import Entailment, entails, judge
from rag_service.report.labeler import shared_labeler

ENTAILED, CONTRADICTED, NEUTRAL = Verdict.ENTAILED, Verdict.CONTRADICTED, Verdict.NEUTRAL


def read(*premises: str, hypothesis: str) -> Entailment:
    reader = shared_labeler().read_report
    return entails([reader(p) for p in premises], reader(hypothesis))


@pytest.mark.parametrize(
    ("premise", "hypothesis", "verdict", "lacking"),
    [
        # what is said more closely makes true what is said less closely
        ("Small left pleural effusion.", "Pleural effusion.", ENTAILED, ()),
        ("Small left pleural effusion.", "Left pleural effusion.", ENTAILED, ()),
        ("Pleural effusion.", "Small pleural effusion.", NEUTRAL, (Aspect.SEVERITY,)),
        ("Pleural effusion.", "Left pleural effusion.", NEUTRAL, (Aspect.SIDE,)),
        ("Opacity.", "Opacity at the base.", NEUTRAL, (Aspect.LOCATION,)),
        ("Edema.", "Worsening edema.", NEUTRAL, (Aspect.CHANGE,)),
        ("Worsening edema.", "Edema.", ENTAILED, ()),
        # finding and polarity
        ("Edema.", "Pleural effusion.", NEUTRAL, (Aspect.FINDING,)),
        ("Edema.", "Possible edema.", ENTAILED, ()),
        ("Possible edema.", "Edema.", NEUTRAL, (Aspect.POLARITY,)),
        ("Possible edema.", "No edema.", NEUTRAL, (Aspect.POLARITY,)),
        ("No edema.", "Possible edema.", CONTRADICTED, (Aspect.POLARITY,)),
        ("No edema.", "Edema.", CONTRADICTED, (Aspect.POLARITY,)),
        ("Edema.", "No edema.", CONTRADICTED, (Aspect.POLARITY,)),
        # sides
        ("Bilateral pleural effusions.", "Right pleural effusion.", ENTAILED, ()),
        ("Right pleural effusion.", "Bilateral pleural effusions.", NEUTRAL, (Aspect.SIDE,)),
        ("Right pneumothorax.", "Left pneumothorax.", CONTRADICTED, (Aspect.SIDE,)),
        ("Left pneumothorax.", "No pneumothorax.", CONTRADICTED, (Aspect.POLARITY,)),
        ("Left pneumothorax.", "No right pneumothorax.", NEUTRAL, (Aspect.POLARITY,)),
        ("No left pneumothorax.", "No pneumothorax.", NEUTRAL, (Aspect.SIDE,)),
        ("No pneumothorax.", "No left pneumothorax.", ENTAILED, ()),
        ("No left pleural effusion.", "Bilateral pleural effusions.", CONTRADICTED, (Aspect.POLARITY,)),
        # places
        ("Opacity at the right apex.", "Right upper lobe opacity.", ENTAILED, ()),
        ("Right upper lobe opacity.", "Opacity at the right apex.", NEUTRAL, (Aspect.LOCATION,)),
        ("Opacity at the right apex.", "Opacity at the right base.", CONTRADICTED, (Aspect.LOCATION,)),
        ("Perihilar opacity.", "Opacity at the base.", NEUTRAL, (Aspect.LOCATION,)),
        ("No opacity in the upper lobe.", "No opacity.", NEUTRAL, (Aspect.LOCATION,)),
        ("No opacity in the upper lobe.", "No opacity at the apex.", ENTAILED, ()),
        ("The costophrenic angles are sharp.", "No pleural effusion.", ENTAILED, ()),
        # degrees
        ("Small pleural effusion.", "Large pleural effusion.", CONTRADICTED, (Aspect.SEVERITY,)),
        ("Small pleural effusion.", "Moderate pleural effusion.", NEUTRAL, (Aspect.SEVERITY,)),
        ("Mild cardiomegaly.", "Mild to moderate cardiomegaly.", ENTAILED, ()),
        ("No large pleural effusion.", "No pleural effusion.", NEUTRAL, (Aspect.SEVERITY,)),
        ("No pleural effusion.", "No large pleural effusion.", ENTAILED, ()),
        ("No large pleural effusion.", "Massive pleural effusion.", CONTRADICTED, (Aspect.POLARITY,)),
        ("No large pleural effusion.", "Small pleural effusion.", NEUTRAL, (Aspect.POLARITY,)),
        # change
        ("Worsening edema.", "Improving edema.", CONTRADICTED, (Aspect.CHANGE,)),
        ("No new pleural effusion.", "No pleural effusion.", NEUTRAL, (Aspect.CHANGE,)),
        ("No pleural effusion.", "No new pleural effusion.", ENTAILED, ()),
        ("The pleural effusion has resolved.", "No pleural effusion.", ENTAILED, ()),
        # what follows by the hierarchy of findings
        ("Left lower lobe pneumonia.", "Left lower lobe opacity.", ENTAILED, ()),
        ("Possible pneumonia.", "Possible opacity.", ENTAILED, ()),
        ("Opacity.", "Pneumonia.", NEUTRAL, (Aspect.FINDING,)),
        ("Moderate edema.", "Moderate opacity.", NEUTRAL, (Aspect.SEVERITY,)),
        ("Pneumonia.", "No opacity.", CONTRADICTED, (Aspect.POLARITY,)),
        ("Bibasilar atelectasis.", "No focal opacity.", NEUTRAL, (Aspect.FINDING,)),
        ("The lungs are clear.", "No consolidation.", ENTAILED, ()),
        ("The lungs are clear.", "No pneumonia.", ENTAILED, ()),
        ("The lungs are clear.", "No edema.", NEUTRAL, (Aspect.FINDING,)),
        ("Heart size is normal.", "No cardiomegaly.", ENTAILED, ()),
        # normal films
        ("Normal chest.", "No pneumothorax.", ENTAILED, ()),
        ("Normal chest.", "Pneumothorax.", CONTRADICTED, (Aspect.POLARITY,)),
        ("Normal chest.", "No fracture.", NEUTRAL, (Aspect.FINDING,)),
        ("Pleural effusion.", "Normal chest.", CONTRADICTED, (Aspect.POLARITY,)),
        ("Possible edema.", "Normal chest.", NEUTRAL, (Aspect.POLARITY,)),
        ("No edema.", "Normal chest.", NEUTRAL, (Aspect.FINDING,)),
        # nothing that the labeler reads
        ("The aorta is tortuous.", "The spine is curved.", NEUTRAL, (Aspect.FINDING,)),
        ("The aorta is tortuous.", "No edema.", NEUTRAL, (Aspect.FINDING,)),
    ],
)
def test_pairs(premise: str, hypothesis: str, verdict: Verdict, lacking: tuple[Aspect, ...]) -> None:
    found = read(premise, hypothesis=hypothesis)
    assert (found.verdict, found.lacking) == (verdict, lacking)
    assert judge([premise], hypothesis) is verdict


def test_two_sentences_that_say_the_same_of_either_side_say_it_of_both() -> None:
    sides = ("Small left pleural effusion.", "Small right pleural effusion.")
    assert read(*sides, hypothesis="Small bilateral pleural effusions.").verdict is ENTAILED
    unlike = ("Small left basilar opacity.", "Large right apical opacity, worsening.")
    assert read(*unlike, hypothesis="Bilateral opacities.").verdict is ENTAILED
    assert read(*unlike, hypothesis="Small bilateral opacities.").verdict is NEUTRAL
    assert read("No left effusion.", "No right effusion.", hypothesis="No pleural effusion.").verdict is ENTAILED


def test_one_statement_that_cannot_be_true_contradicts_the_whole_sentence() -> None:
    premises = ("Cardiomegaly.", "No pleural effusion.")
    assert read(*premises, hypothesis="Cardiomegaly without pleural effusion.").verdict is ENTAILED
    assert read(*premises, hypothesis="Cardiomegaly with pleural effusion.").verdict is CONTRADICTED
    assert read(*premises, hypothesis="Cardiomegaly with edema.").verdict is NEUTRAL


def test_a_side_is_contradicted_only_where_nothing_leaves_it_open() -> None:
    assert read("Left opacity.", "Opacity.", hypothesis="Right opacity.").verdict is NEUTRAL
    assert read("Left opacity.", "Right opacity.", hypothesis="Right opacity.").verdict is ENTAILED
    assert read("Left opacity.", "No opacity on the right.", hypothesis="Right opacity.").verdict is CONTRADICTED


def test_places_and_degrees_are_those_the_labeler_reads() -> None:
    assert {*WHOLES, *(w for whole in WHOLES.values() for w in whole), *UPPER, *LOWER} <= set(LOCATIONS)
    assert set(GRADES) == set(SEVERITIES)
    assert within("apex", "upper lobe")
    assert within("base", "base")
    assert not within("upper lobe", "apex")
    assert not within(None, None)


MENTIONS = st.builds(
    Mention,
    st.sampled_from(PATHOLOGIES),
    st.sampled_from(list(Polarity)),
    st.just((0, 1)),
    st.sampled_from([None, *Laterality]),
    st.sampled_from([None, *LOCATIONS]),
    st.sampled_from([None, *GRADES]),
    st.sampled_from([None, *Progression]),
)


@given(MENTIONS)
def test_every_statement_makes_itself_true(mention: Mention) -> None:
    assert entails([[mention]], [mention]).verdict is ENTAILED


@given(st.lists(MENTIONS, max_size=4), MENTIONS, MENTIONS)
def test_more_premises_never_undo_what_follows(premises: list[Mention], more: Mention, asked: Mention) -> None:
    if entails([premises], [asked]).verdict is ENTAILED:
        assert entails([premises, [more]], [asked]).verdict is ENTAILED


OPACITIES = st.builds(
    Mention,
    st.just("Lung Opacity"),
    st.sampled_from(list(Polarity)),
    st.just((0, 1)),
    st.sampled_from([None, Laterality.LEFT, Laterality.BILATERAL]),
    st.sampled_from([None, "apex", "upper lobe"]),
    st.sampled_from([None, "mild", "mild to moderate"]),
)


@given(OPACITIES, OPACITIES, OPACITIES)
def test_what_follows_from_what_follows_follows(first: Mention, second: Mention, third: Mention) -> None:
    if entails([[first]], [second]).verdict is entails([[second]], [third]).verdict is ENTAILED:
        assert entails([[first]], [third]).verdict is ENTAILED


@given(MENTIONS)
def test_a_denial_and_what_it_denies_contradict_each_other(mention: Mention) -> None:
    denial = Mention(mention.finding, Polarity.NEGATIVE, (0, 1))
    if mention.polarity is Polarity.POSITIVE:
        assert entails([[denial]], [mention]).verdict is CONTRADICTED
        assert entails([[mention]], [denial]).verdict is CONTRADICTED


def test_nothing_follows_from_nothing() -> None:
    normal = [Mention(NO_FINDING, Polarity.POSITIVE, (0, 1))]
    assert entails([], normal) == entails([normal], []) == Entailment(NEUTRAL, {Aspect.FINDING: NEUTRAL})
