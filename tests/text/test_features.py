from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from geodistill.errors import ArtifactError, DataError
from geodistill.text.features import (
    MOST_TOKENS,
    FeatureStore,
    encode_prompt,
    fitting_words,
    padded,
    token_count,
)
from geodistill.text.templates import ClassText, Prompt, Setting, write_prompt
from geodistill.text.text_encoders import WORD_WIDTH, RemoteClipEncoder, WordEncoder, open_text_encoder
from tiny_text import tiny_bert, tiny_tokenizer

CLASSES = ["building", "tree"]


def clip_config(size: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, eos_token_id=1, bos_token_id=0, pad_token_id=1,
    )  # fmt: skip


def test_words_are_fixed_directions() -> None:
    encoder = open_text_encoder("words")
    assert encoder.encode("Tree, tree!").shape == (2, WORD_WIDTH)
    assert torch.equal(encoder.encode("tree building")[0], encoder.encode("TREE")[0])
    one, other = encoder.encode("tree")[0], encoder.encode("building")[0]
    assert abs(torch.cosine_similarity(one, other, dim=0)) < 0.4
    assert encoder.encode("").shape == (1, WORD_WIDTH)
    assert encoder.tokens("") == 1


def test_bert_from_a_directory_is_read_without_padding_or_gradients(tmp_path: Path) -> None:
    encoder = open_text_encoder(str(tiny_bert(tmp_path)))
    features = encoder.encode("grey round crowns")
    assert features.shape == (encoder.tokens("grey round crowns"), 16)
    assert not features.requires_grad
    assert torch.equal(features, encoder.encode("grey round crowns"))


def test_the_classes_are_read_as_one_text_or_each_by_itself(tmp_path: Path) -> None:
    encoder = open_text_encoder(str(tiny_bert(tmp_path, longest=24)))
    parts = tuple(ClassText(c, "", text, "built-in") for c, text in zip("ab", ("grey building", "tree"), strict=True))
    prompt = Prompt(Setting(), "climate", parts)
    assert torch.equal(encode_prompt(encoder, prompt), encoder.encode("grey building tree"))
    apart = encode_prompt(encoder, prompt, merged=False)
    assert torch.equal(apart, torch.cat([encoder.encode("grey building"), encoder.encode("tree")]))
    assert not torch.allclose(apart, encode_prompt(encoder, prompt))
    # One class fits the encoder's 24 tokens, the four together do not.
    long = Prompt(Setting(), "climate", tuple(ClassText(c, "", "grey building " * 8, "built-in") for c in "abcd"))
    assert encode_prompt(encoder, long, merged=False).shape == (64, 16)
    with pytest.raises(DataError, match="at most 24"):
        encode_prompt(encoder, long)


def test_features_of_both_ways_of_reading_are_kept_apart(tmp_path: Path) -> None:
    encoder = str(tiny_bert(tmp_path / "bert"))
    prompt = Prompt(Setting(), "climate", tuple(ClassText(c, "", "grey tree", "built-in") for c in "ab"))
    merged, apart = (FeatureStore(encoder, tmp_path / "store", merged=way).features([prompt]) for way in (True, False))
    assert not torch.equal(merged[prompt.id], apart[prompt.id])


def test_nothing_is_cut_in_silence() -> None:
    prompt = write_prompt(Setting("Cfb"), CLASSES)
    count = token_count(WordEncoder(), prompt)
    assert encode_prompt(WordEncoder(), prompt, count).shape[0] == count
    with pytest.raises(DataError, match=f"a prompt of {count} tokens"):
        encode_prompt(WordEncoder(), prompt, count - 1)


@pytest.mark.parametrize("classes", [1, 2, 6, 9, 15])
def test_answers_of_the_asked_length_fit_the_papers_prompt(classes: int) -> None:
    words = fitting_words(classes)
    assert 8 <= words <= 40
    answer = "name: " + " ".join(["green"] * words)
    parts = tuple(ClassText("name", "", answer, "m") for _ in range(classes))
    # BERT takes 1.35 tokens a word on average, and two more around each text.
    assert 1.35 * token_count(WordEncoder(), Prompt(Setting(), "climate", parts)) + 2 * classes <= MOST_TOKENS


def test_the_encoder_runs_once_per_distinct_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [write_prompt(Setting(zone), CLASSES) for zone in ("Cfb", "BWh", "Cfb")]
    first = FeatureStore("words", tmp_path).features(prompts)
    assert len(first) == len(list(tmp_path.iterdir())) == 2

    def refuse(self: WordEncoder, text: str) -> torch.Tensor:
        raise AssertionError("encoded twice")

    monkeypatch.setattr(WordEncoder, "encode", refuse)
    second = FeatureStore("words", tmp_path).features(prompts)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_other_weights_are_another_encoder(tmp_path: Path) -> None:
    one, two = (
        open_text_encoder(str(tiny_bert(tmp_path / "a"))),
        open_text_encoder(str(tiny_bert(tmp_path / "b", seed=1))),
    )
    assert one.fingerprint != two.fingerprint
    prompt = Prompt(Setting(), "climate", (ClassText("tree", "", "tree", "built-in"),))
    store = tmp_path / "store"
    a = FeatureStore(one.name, store).features([prompt])
    b = FeatureStore(two.name, store).features([prompt])
    assert not torch.equal(a[prompt.id], b[prompt.id])


def test_stored_features_of_another_width_are_refused(tmp_path: Path) -> None:
    prompt = write_prompt(Setting("Cfb"), CLASSES)
    FeatureStore("words", tmp_path).features([prompt])
    file = next(tmp_path.iterdir())
    save_file({"features": torch.zeros(4, 7)}, file)
    with pytest.raises(ArtifactError, match=f"tokens x {WORD_WIDTH}"):
        FeatureStore("words", tmp_path).features([prompt])
    file.write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="holds no prompt features"):
        FeatureStore("words", tmp_path).features([prompt])


def test_padding_marks_what_is_text() -> None:
    text, present = padded([torch.ones(2, 3), torch.ones(4, 3)])
    assert text.shape == (2, 4, 3)
    assert present.tolist() == [[True, True, False, False], [True] * 4]
    assert float(text[0, 2:].abs().sum()) == 0


def test_what_is_no_text_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        open_text_encoder(str(tmp_path))


def open_clip_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name transformers' text weights as open_clip does."""
    state = {key.removeprefix("text_model."): value for key, value in state.items()}
    named = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "visual.proj": torch.zeros(1),
    }
    for layer in range(2):
        old, new = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [state[f"{old}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            named[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
            for a, b in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("attn.out_proj", "self_attn.out_proj"),
                         ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):  # fmt: skip
                named[f"{new}{a}.{kind}"] = state[f"{old}{b}.{kind}"]
    return named


def test_remoteclip_weights_go_under_transformers_names(tmp_path: Path) -> None:
    size = tiny_tokenizer(tmp_path / "base")
    torch.manual_seed(0)
    CLIPTextModel(clip_config(size)).save_pretrained(tmp_path / "base")
    torch.manual_seed(1)
    trained = CLIPTextModel(clip_config(size)).eval()
    weights = tmp_path / "RemoteCLIP-ViT-B-32.pt"
    torch.save(open_clip_names(trained.state_dict()), weights)
    encoder = RemoteClipEncoder("RemoteCLIP-ViT-B-32", weights, str(tmp_path / "base"))
    ids = torch.tensor([[4, 5, 6]])
    with torch.inference_mode():
        assert torch.allclose(
            encoder.encode("grey round crowns"), trained(input_ids=ids).last_hidden_state[0], atol=1e-6
        )
    torch.save({"token_embedding.weight": torch.zeros(3, 3)}, weights)
    with pytest.raises(ArtifactError, match="holds no RemoteCLIP weights"):
        RemoteClipEncoder("RemoteCLIP-ViT-B-32", weights, str(tmp_path / "base"))
