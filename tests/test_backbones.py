"""What backbones promise: known weights, cuts that change nothing, inputs as they were trained."""

import hashlib
import http.server
import pickle
import socket
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from meninx.backbones import Backbone, CatalogueEntry, WeightsKind, catalogue, to_square
from meninx.backbones.architectures import find_architecture
from meninx.backbones.preparation import normalise
from meninx.backbones.stages import dissect
from meninx.backbones.weights import PACKAGED_NAMES, find_weights, load_weights, locate
from meninx.errors import BackboneError, ImageError, WeightsError

LITE0 = "tf_efficientnet_lite0"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EGYPTIAN_CAT, ESPRESSO = 285, 967

# One of each family the catalogue names, small inputs: the stages do not depend on the size.
FAMILIES = {
    "tf_efficientnet_lite0": 64,
    "efficientnet_b0": 64,
    "mobilenetv2_100": 64,
    "mobilenetv3_small_100": 64,
    "resnet18": 64,
    "resnet50": 64,
    "densenet121": 64,
    "convnext_atto": 64,
    "inception_v3": 107,
    "alexnet": 64,
    "googlenet": 64,
    "squeezenet1_1": 64,
    "torchvision/mobilenet_v2": 64,
    "torchvision/mobilenet_v3_small": 64,
    "torchvision/densenet121": 64,
    "torchvision/regnet_y_400mf": 64,
    "torchvision/resnet18": 64,
    "mnasnet0_5": 64,
    "shufflenet_v2_x0_5": 64,
    "dla46_c": 64,
}
BIG_FAMILIES = {
    "resnet34": 64,
    "vgg16": 64,
    "vgg19": 64,
    "convnext_tiny": 64,
    "mobilenetv3_large_100": 64,
    "torchvision/vgg16": 64,
    "torchvision/convnext_tiny": 64,
    "torchvision/efficientnet_b0": 64,
    "torchvision/inception_v3": 107,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small inputs are slower on many threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path, monkeypatch):
    """No weights but the packaged ones: empty caches, no folder, and no internet."""
    monkeypatch.delenv("MENINX_WEIGHTS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "torch"))

    look_up = socket.getaddrinfo

    def look_up_locally(host, *rest, **options):
        if host not in ("127.0.0.1", b"127.0.0.1"):
            raise socket.gaierror(f"no internet in tests: {host}")
        return look_up(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_locally)
    yield
    torch.hub.set_dir(before)


@pytest.fixture(scope="module")
def lite0():
    return Backbone.load(LITE0)


@pytest.fixture(scope="module")
def squeezenet_state():
    """Weights of a small network (1.2 M numbers), as its authors would publish them."""
    return find_architecture("squeezenet1_1").build(seed=7).state_dict()


def random_input(size, n=2):
    return 2 * torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1)) - 1


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def site(tmp_path):
    """A folder that a web server on this machine serves: the folder and its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files with the headers by which the Hugging Face hub names a version."""

    def end_headers(self):
        if "/resolve/" in self.path:
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", '"0123456789abcdef"')
        super().end_headers()

    def log_message(self, *_):
        pass


# ---------------------------------------------------------------------------------- stages


def assert_same_answer(given, expected, where):
    scale = expected.abs().max()
    assert scale > 0, f"{where} says nothing"
    assert torch.allclose(given / scale, expected / scale, rtol=0, atol=1e-5), where


def assert_cuts_change_nothing(name, size):
    x = random_input(size)
    backbone = Backbone.untrained(name, seed=3)
    with torch.no_grad():
        expected = find_architecture(name).build(seed=3)(x)
        for cut in backbone.cuts:
            kept = backbone.prefix(cut)(x.clone())
            before = kept.clone()
            features = backbone.suffix(cut)(kept)
            # A cached activation is used for many epochs: nothing may write into it.
            assert torch.equal(kept, before), f"{name} cut at {cut} alters its input"
            assert features.shape == (2, backbone.features)
            assert_same_answer(backbone.classifier(features), expected, f"{name} cut at {cut}")


@pytest.mark.parametrize(("name", "size"), FAMILIES.items())
def test_suffix_of_prefix_equals_the_whole_network(name, size):
    assert_cuts_change_nothing(name, size)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), BIG_FAMILIES.items())
def test_suffix_of_prefix_equals_the_whole_network_in_big_families(name, size):
    assert_cuts_change_nothing(name, size)


def fill(module):
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_vgg_with_narrow_hidden_layers_equals_the_whole_network(name):
    """As above, but without filling half a gigabyte of hidden layers; the slow tests do that."""
    with torch.device("meta"):
        network = timm.create_model(name).eval()
    network.features.to_empty(device="cpu").apply(fill)
    network.pre_logits = timm.models.vgg.ConvMlp(512, 64, 7, mlp_ratio=1.0).eval()
    network.head.fc = nn.Linear(64, 10)
    x = random_input(64)
    with torch.no_grad():
        expected = network(x)
        dissection = dissect(name, network, 64)
        for position in range(len(dissection.network) + 1):
            kept = dissection.network[:position](x)
            features = dissection.network[position:](kept)
            assert features.shape == (2, 64)
            assert_same_answer(dissection.classifier(features), expected, f"{name} at {position}")
    assert [stage.reduction for stage in dissection.stages] == [2, 4, 8, 16, 32]


def test_lite0_has_the_stages_of_its_authors(lite0):
    assert lite0.cuts == ("stem", *(f"stage{i}" for i in range(1, 8)), "head")
    assert [name for name, _ in lite0.network.named_children()] == [*lite0.cuts[:-1], "pool"]
    assert [stage.reduction for stage in lite0.stages] == [2, 2, 4, 8, 16, 16, 32, 32]
    assert [stage.channels for stage in lite0.stages] == [32, 16, 24, 40, 80, 112, 192, 1280]
    assert lite0.features == 1280
    parameters = sum(p.numel() for p in lite0.network.parameters())
    assert sum(stage.parameters for stage in lite0.stages) == parameters


@pytest.mark.parametrize(
    ("name", "reductions"),
    [
        ("alexnet", [8, 16, 32]),
        ("resnet18", [4, 4, 8, 16, 32]),
        ("convnext_atto", [4, 4, 8, 16, 32]),
        ("squeezenet1_1", [4, 8, 16, 16]),
    ],
)
def test_stages_are_what_works_at_one_resolution(name, reductions):
    assert [stage.reduction for stage in Backbone.untrained(name).stages] == reductions


def test_the_last_stage_puts_out_the_last_map(lite0):
    with torch.no_grad():
        last_map = lite0.network[:-1](random_input(64))
        features = lite0.network(random_input(64))
    assert last_map.shape == (2, 1280, 2, 2)
    assert torch.allclose(last_map.mean((2, 3)), features, atol=1e-5)


def test_prefix_is_frozen_and_suffix_is_a_trainable_copy(lite0):
    prefix, suffix = lite0.prefix("stage5"), lite0.suffix("stage5")
    assert not any(p.requires_grad for p in prefix.parameters())
    assert not any(m.training for m in prefix.modules())
    assert all(p.requires_grad for p in suffix.parameters())
    before = lite0.network.stage7.conv_head.weight.clone()
    with torch.no_grad():
        suffix.stage7.conv_head.weight.add_(1)
    assert torch.equal(lite0.network.stage7.conv_head.weight, before)
    assert not any(p.requires_grad for p in lite0.network.parameters())


def test_the_outermost_cuts_are_identities(lite0):
    x = random_input(32)
    assert isinstance(lite0.prefix("stem"), nn.Identity)
    assert isinstance(lite0.suffix("head"), nn.Identity)
    assert torch.equal(lite0.prefix("stem")(x), x)


def test_a_backbone_can_be_sent_to_a_worker(lite0):
    sent = pickle.loads(pickle.dumps(lite0))
    x = random_input(64)
    with torch.no_grad():
        assert torch.equal(sent.network(x), lite0.network(x))


def test_an_unknown_cut_is_refused_with_the_known_ones(lite0):
    with pytest.raises(BackboneError, match=r"no cut 'stage9'; its cuts are stem, stage1"):
        lite0.prefix("stage9")


def test_batch_normalisation_is_reachable_with_imagenet_statistics(lite0):
    layers = {
        name: module
        for name, module in lite0.network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert len(layers) == 49
    assert "stem.bn1" in layers
    assert "stage7.bn2" in layers
    assert all(not torch.all(layer.running_var == 1) for layer in layers.values())


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "hrnet_w18_small"]
)
def test_what_is_no_chain_of_stages_is_refused_in_one_line(name):
    with pytest.raises(BackboneError, match=f"^{name} cannot be cut into stages: [^\n]*$"):
        Backbone.untrained(name)


class Detour(nn.Module):
    """A CNN with a step outside its children, which a chain of children would lose."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.avgpool(self.layer1(torch.sin(self.conv(x)))).flatten(1))


def test_a_network_that_its_pieces_do_not_reproduce_is_refused():
    with pytest.raises(BackboneError, match="detour cannot be cut"):
        dissect("detour", Detour().eval(), 32)


# --------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("name", PACKAGED_NAMES)
def test_packaged_weights_fill_the_network(name):
    backbone = Backbone.load(name)
    assert backbone.source.kind is WeightsKind.PACKAGED
    assert backbone.source.sha256.startswith(backbone.source.location[-12:-4])
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert backbone.input_size == {"0": 224, "1": 240, "2": 260}[name[-1]]


def test_lite0_still_knows_imagenet(lite0):
    data = pytest.importorskip("skimage.data")
    images = [image.astype(np.float32) / 255 for image in (data.chelsea(), data.coffee())]
    with torch.no_grad():
        seen = lite0.classifier(lite0.network(lite0.prepare(images))).argmax(1)
    assert seen.tolist() == [EGYPTIAN_CAT, ESPRESSO]


def test_a_packaged_file_is_recognised_by_its_checksum_wherever_it_lies(lite0, tmp_path):
    _, packaged = locate(find_architecture(LITE0))
    copy = tmp_path / "mine.pth"
    copy.write_bytes(packaged.read_bytes())
    backbone = Backbone.load(LITE0, weights=copy)
    assert backbone.source.kind is WeightsKind.FILE
    assert backbone.source.location == "mine.pth"
    assert backbone.source.sha256 == LITE0_SHA256
    assert torch.equal(backbone.classifier.weight, lite0.classifier.weight)


def test_weights_are_searched_in_order(tmp_path, monkeypatch, squeezenet_state):
    """Each better place is filled in turn, and wins over those filled before it."""
    architecture = replace(find_architecture("squeezenet1_1"), hub_id="timm/squeezenet.test")
    with pytest.raises(WeightsError):
        find_weights(architecture)

    torch_cache = Path(torch.hub.get_dir()) / "checkpoints"
    torch_cache.mkdir(parents=True, exist_ok=True)
    unnamed = tmp_path / "unnamed.pth"
    torch.save(squeezenet_state, unnamed)
    hashed = f"squeezenet1_1-{sha256_of(unnamed)[:8]}.pth"
    unnamed.rename(torch_cache / hashed)
    architecture = replace(architecture, url=f"https://example.invalid/{hashed}")
    path, source = find_weights(architecture)
    assert (source.kind, source.location) == (WeightsKind.HUB_CACHE, hashed)
    assert source.sha256 == sha256_of(path)

    repository = tmp_path / "hub" / "models--timm--squeezenet.test"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(squeezenet_state, repository / "snapshots" / "abc" / "model.safetensors")
    _, source = find_weights(architecture)
    assert (source.kind, source.location) == (WeightsKind.HUB_CACHE, "timm/squeezenet.test")

    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(squeezenet_state, folder / "squeezenet1_1.safetensors")
    monkeypatch.setenv("MENINX_WEIGHTS", str(folder))
    _, source = find_weights(architecture)
    assert (source.kind, source.location) == (WeightsKind.FILE, "squeezenet1_1.safetensors")

    mine = tmp_path / "mine.bin"
    torch.save(squeezenet_state, mine)
    _, source = find_weights(architecture, mine)
    assert (source.kind, source.location) == (WeightsKind.FILE, "mine.bin")


def test_the_folder_wins_over_the_packaged_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("MENINX_WEIGHTS", str(tmp_path))
    state = {"nonsense": torch.zeros(1)}
    save_file(state, tmp_path / f"{LITE0}.safetensors")
    with pytest.raises(WeightsError, match=rf"{LITE0}.safetensors does not fit"):
        Backbone.load(LITE0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_every_tensor_of_a_file_arrives(tmp_path, squeezenet_state, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": squeezenet_state}, path)
    else:
        save_file(squeezenet_state, path)
    backbone = Backbone.load("squeezenet1_1", weights=path)
    assert torch.equal(
        backbone.network.stem.features_0.weight, squeezenet_state["features.0.weight"]
    )
    assert torch.equal(
        backbone.network.pool.classifier_1.weight, squeezenet_state["classifier.1.weight"]
    )
    assert backbone.source.sha256 == sha256_of(path)


def test_old_files_without_batch_counters_and_with_auxiliary_classifiers_fit(tmp_path):
    state = find_architecture("googlenet").build().state_dict()
    old = {key: value for key, value in state.items() if "num_batches" not in key}
    old["aux1.fc2.bias"] = torch.zeros(1000)
    torch.save(old, tmp_path / "googlenet.pth")
    backbone = Backbone.load("googlenet", weights=tmp_path / "googlenet.pth")
    assert torch.equal(backbone.classifier.weight, state["fc.weight"])


def test_files_in_the_layout_of_torchvision_are_translated_for_timm(tmp_path):
    timms = timm.create_model("densenet121").state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value
        for key, value in timms.items()
        if "num_batches" not in key
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    for name in ("densenet121", "torchvision/densenet121"):
        backbone = Backbone.load(name, weights=tmp_path / "old.pth")
        assert torch.equal(backbone.classifier.weight, timms["classifier.weight"])


def test_the_first_tensor_that_does_not_fit_is_named(tmp_path, squeezenet_state):
    network = find_architecture("squeezenet1_1").build()
    architecture = find_architecture("squeezenet1_1")
    faults = {
        "it has no tensor features.3.squeeze.bias": {
            k: v for k, v in squeezenet_state.items() if k != "features.3.squeeze.bias"
        },
        "the network has no tensor extra": squeezenet_state | {"extra": torch.zeros(2)},
        r"features.0.bias is \(2,\), the network needs \(64,\)": squeezenet_state
        | {"features.0.bias": torch.zeros(2)},
    }
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for message, state in faults.items():
        path = tmp_path / "faulty.safetensors"
        save_file(state, path)
        with pytest.raises(WeightsError, match=message):
            load_weights(network, *find_weights(architecture, path))
    assert all(torch.equal(network.state_dict()[key], before[key]) for key in before)


def test_a_file_that_timm_cannot_translate_names_its_first_unfitting_tensor(tmp_path):
    save_file({"classifier.0.weight": torch.zeros(3)}, tmp_path / "vgg.safetensors")
    with torch.device("meta"):
        network = find_architecture("vgg11").build()
    found = find_weights(find_architecture("vgg11"), tmp_path / "vgg.safetensors")
    with pytest.raises(WeightsError, match=r"it has no tensor features\.0\.weight"):
        load_weights(network, *found)


@pytest.mark.parametrize("content", [nn.Linear(2, 2), torch.zeros(2), [torch.zeros(2)]])
def test_a_pickled_model_or_nameless_tensors_are_refused(tmp_path, content):
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"model.pth cannot be read as plain tensors"):
        Backbone.load("squeezenet1_1", weights=path)


@pytest.mark.parametrize("file", ["broken.safetensors", "broken.pth"])
def test_a_broken_file_is_refused(tmp_path, file):
    (tmp_path / file).write_bytes(b"not a weight file at all")
    with pytest.raises(WeightsError, match="cannot be read"):
        Backbone.load("squeezenet1_1", weights=tmp_path / file)


def test_a_file_that_is_not_there_or_no_weight_file_is_refused(tmp_path):
    architecture = find_architecture(LITE0)
    with pytest.raises(WeightsError, match="there is no weight file"):
        find_weights(architecture, tmp_path / "absent.pth")
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"weights.npz is no weight file: expected .safetensors"):
        find_weights(architecture, tmp_path / "weights.npz")


def test_a_cached_file_with_a_wrong_checksum_is_refused(squeezenet_state):
    architecture = find_architecture("squeezenet1_1")
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(squeezenet_state, cache / Path(architecture.url).name)
    with pytest.raises(WeightsError, match="damaged or altered: its sha256 begins"):
        find_weights(architecture)


def test_weights_are_downloaded_last_and_kept(site, squeezenet_state):
    folder, address = site
    torch.save(squeezenet_state, folder / "new.pth")
    digest = sha256_of(folder / "new.pth")
    name = f"squeezenet1_1-{digest[:8]}.pth"
    (folder / "new.pth").rename(folder / name)
    architecture = replace(find_architecture("squeezenet1_1"), url=f"{address}/{name}")
    path, source = find_weights(architecture)
    assert (source.kind, source.location, source.sha256) == (WeightsKind.DOWNLOAD, name, digest)
    load_weights(architecture.build(), path, source)
    assert find_weights(architecture)[1].kind is WeightsKind.HUB_CACHE


def test_the_hub_is_asked_before_the_address(site, monkeypatch, squeezenet_state):
    folder, address = site
    published = folder / "timm" / "squeezenet.test" / "resolve" / "main" / "model.safetensors"
    published.parent.mkdir(parents=True)
    save_file(squeezenet_state, published)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    architecture = replace(find_architecture("squeezenet1_1"), hub_id="timm/squeezenet.test")
    path, source = find_weights(architecture)
    assert (source.kind, source.location) == (WeightsKind.DOWNLOAD, "timm/squeezenet.test")
    assert source.sha256 == sha256_of(published)
    load_weights(architecture.build(), path, source)
    assert find_weights(architecture)[1].kind is WeightsKind.HUB_CACHE


def test_a_download_with_a_wrong_checksum_is_refused(site):
    folder, address = site
    (folder / "squeezenet1_1-00000000.pth").write_bytes(b"something else")
    url = f"{address}/squeezenet1_1-00000000.pth"
    architecture = replace(find_architecture("squeezenet1_1"), url=url)
    with pytest.raises(WeightsError, match="not to be had from"):
        find_weights(architecture)
    assert not list((Path(torch.hub.get_dir()) / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["resnet18", "alexnet"])
def test_where_no_weights_can_be_had_one_line_says_what_to_do(name):
    with pytest.raises(WeightsError) as caught:
        Backbone.load(name)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"no weights for {name}")
    assert f"put {name}.safetensors or .pth into the folder MENINX_WEIGHTS names" in message
    assert LITE0 in message


# ------------------------------------------------------------------------------- randomness


def test_randomised_is_the_same_network_with_other_weights(lite0):
    one, same, other = (lite0.randomised(seed).network.state_dict() for seed in (1, 1, 2))
    assert one.keys() == lite0.network.state_dict().keys()
    assert all(torch.equal(one[key], same[key]) for key in one)
    key = "stem.conv_stem.weight"
    assert not torch.equal(one[key], other[key])
    assert not torch.equal(one[key], lite0.network.state_dict()[key])
    assert lite0.randomised(1).source.kind is WeightsKind.RANDOM


def test_building_leaves_the_global_random_state_alone(lite0):
    with torch.random.fork_rng():
        torch.manual_seed(123)
        before = torch.random.get_rng_state()
        lite0.randomised(5)
        assert torch.equal(torch.random.get_rng_state(), before)
        catalogue()
        Backbone.load(LITE0)
        assert torch.equal(torch.random.get_rng_state(), before)


# ------------------------------------------------------------------------------------ names


def test_unknown_names_are_refused_with_close_ones():
    with pytest.raises(BackboneError, match=r"called 'resnet_18'; did you mean .*resnet18"):
        Backbone.load("resnet_18")
    with pytest.raises(BackboneError, match="neither timm nor torchvision"):
        Backbone.load("../../etc/passwd")
    with pytest.raises(
        BackboneError, match=r"no weights called 'resnet18.nope'; it has resnet18.a1"
    ):
        Backbone.load("resnet18.nope")


def test_timm_is_asked_first_and_torchvision_on_demand():
    assert find_architecture("resnet18").library.value == "timm"
    assert find_architecture("torchvision/resnet18").library.value == "torchvision"
    assert find_architecture("alexnet").library.value == "torchvision"


def test_a_name_that_timm_has_given_up_is_followed():
    assert find_architecture("efficientnet_b2a").library_name.startswith("efficientnet_b2.")


def test_inceptions_of_torchvision_take_inputs_around_zero():
    """torchvision announces ImageNet's mean and undoes it inside; we build without that."""
    assert find_architecture("googlenet").mean == (0.5, 0.5, 0.5)
    assert find_architecture("torchvision/resnet18").mean == (0.485, 0.456, 0.406)


def test_the_catalogue_says_which_weights_are_here(tmp_path, monkeypatch):
    monkeypatch.setenv("MENINX_WEIGHTS", str(tmp_path))
    (tmp_path / "resnet18.pth").write_bytes(b"")
    entries = {entry.name: entry for entry in catalogue()}
    assert tuple(entries)[:3] == PACKAGED_NAMES
    assert entries[LITE0] == CatalogueEntry(LITE0, 224, 4_652_008, WeightsKind.PACKAGED)
    assert entries["resnet18"].weights is WeightsKind.FILE
    assert entries["vgg16"].weights is None
    assert entries["inception_v3"].input_size == 299


# ------------------------------------------------------------------------------ preparation


def test_grey_is_repeated_over_the_channels(lite0):
    grey = np.random.default_rng(0).random((50, 40), dtype=np.float32)
    squares = lite0.to_square([grey])
    assert squares.shape == (1, 3, 224, 224)
    assert squares.dtype == torch.float32
    assert torch.equal(squares[0, 0], squares[0, 1])
    assert torch.equal(squares[0, 0], squares[0, 2])
    colour = np.repeat(grey[..., None], 3, axis=2)
    assert torch.equal(lite0.prepare([colour]), lite0.prepare([grey]))


@pytest.mark.parametrize(("height", "width"), [(200, 500), (500, 200), (300, 300)])
def test_a_circle_stays_a_circle(height, width):
    rows, columns = np.mgrid[:height, :width]
    inside = np.hypot(rows - height / 2 + 0.5, columns - width / 2 + 0.5) < 80
    square = to_square([inside.astype(np.float32)], 224)[0, 0] > 0.5
    tall, wide = square.any(1).sum(), square.any(0).sum()
    assert abs(int(tall) - int(wide)) <= 1
    assert abs(int(wide) - 160 * 224 / max(height, width)) <= 2


def test_padding_is_black_and_centred():
    wide, tall = to_square([np.ones((10, 30), np.float32), np.ones((30, 10), np.float32)], 30)
    for square in (wide[0], tall[0].T):
        assert torch.all(square[:10] == 0)
        assert torch.all(square[10:20] == 1)
        assert torch.all(square[20:] == 0)


def test_fine_patterns_are_averaged_not_picked():
    """Without antialiasing a checkerboard aliases into stripes or one flat colour."""
    board = (np.indices((1120, 1120)).sum(0) % 2).astype(np.float32)
    square = to_square([board], 224)
    assert torch.allclose(square[..., 4:-4, 4:-4], torch.tensor(0.5), atol=0.02)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), colour=st.booleans(), seed=st.integers(0)
)
def test_images_of_any_size_become_squares_in_range(height, width, colour, seed):
    shape = (height, width, 3) if colour else (height, width)
    image = np.random.default_rng(seed).random(shape, dtype=np.float32)
    square = to_square([image], 32)
    assert square.shape == (1, 3, 32, 32)
    assert square.min() >= 0
    assert square.max() <= 1


def test_normalisation_is_the_networks_own(lite0):
    x = lite0.normalise(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1))
    assert x.flatten().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("std", [(0.5, 0.5, 0.5), (0.5, 0.4, 0.3)])
def test_of_equal_channels_one_is_enough(std):
    squares = torch.rand(2, 1, 5, 5)
    given = normalise(squares, (0.5, 0.5, 0.5), std)
    assert given.shape == (2, 3, 5, 5)
    assert torch.equal(given, normalise(squares.repeat(1, 3, 1, 1), (0.5, 0.5, 0.5), std))


def test_no_images_give_an_empty_batch(lite0):
    assert lite0.prepare([]).shape == (0, 3, 224, 224)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4), np.float32), r"must be \(h, w\) or \(h, w, 3\)"),
        (np.zeros((0, 4), np.float32), r"must be \(h, w\)"),
        (np.zeros((4, 4), np.uint8), "must be float"),
        (np.full((4, 4), 255.0, np.float32), "from 255 to 255"),
        (np.full((4, 4), np.nan, np.float32), "from nan to nan"),
    ],
)
def test_what_is_no_image_in_range_is_refused(image, message):
    with pytest.raises(ImageError, match=message):
        to_square([image], 8)
