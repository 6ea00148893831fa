"""What serving promises: the bundle's answers over HTTP, to whom may ask, with nothing kept."""

import base64
import io
import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from meninx.bundle import Bundle
from meninx.errors import MeninxError
from meninx.evaluate import Calibration
from meninx.finetune import FineTunedClassifier, Recipe

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from meninx.serve import app, guards, serve, server, upload

CLASSES = ("left", "right")
TOKEN = "a long random tëxt"


def draw(side: int, seed: int) -> np.ndarray:
    """Draw a grey disc, higher than wide, with a bright spot on one of its sides."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:90j, -1:1:70j]
    image = (x**2 + y**2 < 0.8) * (0.4 + 0.2 * random.random((90, 70)))
    image[(x - (0.4 if side else -0.4)) ** 2 + y**2 < 0.05] = 1
    return image.astype(np.float32)


def encode(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((image * 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENINX_CACHE", str(tmp_path_factory.mktemp("cache")))
        labels = [0, 1] * 4
        images = [draw(label, seed) for seed, label in enumerate(labels)]
        classifier = FineTunedClassifier(
            strategy="frozen", recipe=Recipe(views=2, image_size=64), crop_head=False
        ).fit(images, labels)
        facts = {
            "synthetic": True,
            "cohort": {"images": 8, "patients": 8, "classes": {"left": 4, "right": 4}},
            "scores": {"balanced_accuracy": 0.8, "low": 0.7, "high": 0.9},
            "versions": {},
        }
        folder = tmp_path_factory.mktemp("bundle")
        yield Bundle.save(folder, classifier, CLASSES, Calibration(1.0, 0.2), facts)


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> TestClient:
    return TestClient(app(bundle), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def guarded(bundle: Bundle) -> TestClient:
    return TestClient(app(bundle, TOKEN))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make temporary files land in a folder that can be looked into."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def bearer(token: str) -> dict[str, bytes]:
    return {"Authorization": f"Bearer {token}".encode()}


def test_an_image_is_answered_as_the_bundle_answers_it(
    client: TestClient, bundle: Bundle, tmp_path: Path
) -> None:
    content = encode(draw(1, 50))
    (tmp_path / "image.png").write_bytes(content)
    (expected,) = bundle.predict([tmp_path / "image.png"])
    response = client.post("/predict", files={"file": ("Ms Doe.png", content)})
    assert response.status_code == 200
    (answer,) = response.json()
    assert list(answer) == [
        "image", "patient", "probabilities", "prediction_set", "out_of_distribution",
        "ood", "heatmap",
    ]  # fmt: skip
    assert answer["image"] == "Ms Doe.png"
    assert answer["patient"] is None
    assert answer["out_of_distribution"] is None
    assert answer["probabilities"] == pytest.approx(expected.probabilities)
    assert answer["prediction_set"] == list(expected.prediction_set)


def test_the_heatmap_is_a_picture_of_the_images_size(client: TestClient) -> None:
    (answer,) = client.post("/predict", files={"file": ("a.png", encode(draw(0, 51)))}).json()
    kind, _, data = answer["heatmap"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (70, 90)


def test_where_no_place_spoke_for_the_class_there_is_no_heatmap(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bundle, "_explain_seen", lambda self, seen, _: np.zeros(seen.shape[:2]))
    (answer,) = client.post("/predict", files={"file": ("a.png", encode(draw(0, 51)))}).json()
    assert answer["heatmap"] is None


def test_several_images_are_answered_in_order(client: TestClient) -> None:
    files = [("files", (f"{side}.png", encode(draw(side, 52)))) for side in (1, 0, 1)]
    answers = client.post("/predict", files=files).json()
    assert [answer["image"] for answer in answers] == ["1.png", "0.png", "1.png"]
    assert answers[0] == answers[2] != answers[1]


def test_two_explanations_never_run_at_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = [], []

    def explain(self: Bundle, image: np.ndarray, label: str) -> np.ndarray:
        running.append(label)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return np.zeros(image.shape[:2])

    monkeypatch.setattr(Bundle, "_explain_seen", explain)
    files = {"file": ("a.png", encode(draw(0, 51)))}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: client.post("/predict", files=files), range(4)))
    assert most == [1, 1, 1, 1]


def test_a_volume_in_nifti_is_read_by_its_suffix(client: TestClient, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = np.stack([draw(0, 53)] * 4, axis=2)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "scan.nii.gz")
    content = (tmp_path / "scan.nii.gz").read_bytes()
    response = client.post("/predict", files={"file": ("scan.NII.gz", content)})
    assert response.status_code == 200


@pytest.mark.parametrize("content", [b"no image", b"", encode(draw(0, 1))[:200]])
def test_what_is_no_image_is_refused_by_the_clients_name_for_it(
    client: TestClient, disk: Path, content: bytes
) -> None:
    response = client.post("/predict", files={"file": ("../notes of Ms Doe.txt", content)})
    assert response.status_code == 422
    sentence = response.json()["detail"]
    assert sentence.startswith("../notes of Ms Doe.txt: ")
    assert "\n" not in sentence
    assert str(disk) not in sentence
    assert "upload" not in sentence


def test_a_request_without_a_file_is_refused(client: TestClient) -> None:
    for response in (client.post("/predict"), client.post("/predict", data={"file": "text"})):
        assert response.status_code == 422
        assert "No image" in response.json()["detail"]


def test_more_files_than_allowed_are_refused(client: TestClient) -> None:
    files = [("files", (f"{index}.png", b"x")) for index in range(65)]
    assert client.post("/predict", files=files).status_code == 400


def test_a_large_upload_is_refused_when_announced(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "LARGEST_UPLOAD", 1000)
    response = client.post("/predict", files={"file": ("a.png", bytes(2000))})
    assert response.status_code == 413
    assert "64 MiB" in response.json()["detail"]


def test_a_large_upload_is_refused_when_not_announced(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "LARGEST_UPLOAD", 1000)
    sent = []

    def stream() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
        for index in range(10):
            sent.append(index)
            yield bytes(500)

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post("/predict", content=stream(), headers=kind)
    assert response.status_code == 413


def test_nothing_of_an_upload_stays_on_disk_or_in_a_log(
    client: TestClient, disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    seen = []

    see = Bundle.see

    def read(self: Bundle, path: Path) -> np.ndarray:
        assert path.is_relative_to(disk)
        assert path.parent.stat().st_mode & 0o077 == 0  # no other user may look
        seen.append(path.name)
        return see(self, path)

    monkeypatch.setattr(Bundle, "see", read)
    with caplog.at_level(logging.DEBUG):
        for name, content in (("DOE^JANE.png", encode(draw(0, 54))), ("DOE^JANE.dcm", b"broken")):
            client.post("/predict", files={"file": (name, content)})
    assert seen == ["upload.png", "upload.dcm"]
    assert not list(disk.iterdir())
    assert "DOE" not in caplog.text


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("scan.nii.gz", "upload.nii.gz"),
        ("Doe.Jane.1950.dcm", "upload.dcm"),
        ("a.png/../../b", "upload"),
        ("a.p n g", "upload"),
        ("", "upload"),
    ],
)
def test_only_a_harmless_suffix_of_a_name_reaches_the_disk(name: str, kept: str) -> None:
    sent = SimpleNamespace(filename=name, file=io.BytesIO(b"x"))
    with upload.keep_for_a_moment(sent) as path:
        assert path.name == kept
        assert path.read_bytes() == b"x"
    assert not path.parent.exists()


def test_the_card_is_the_bundles(client: TestClient, bundle: Bundle) -> None:
    card = client.get("/card").json()
    assert card["classes"] == list(CLASSES)
    assert card["scores"] == bundle.card.scores
    assert card["synthetic"] is True
    assert card["notice"] == bundle.card.notice


def test_with_a_token_only_its_bearer_sees_anything_of_the_model(guarded: TestClient) -> None:
    wrong = [
        {},
        bearer(""),
        bearer("other"),
        bearer(TOKEN[:-1]),
        {"Authorization": f"Basic {TOKEN}".encode()},
        {"Authorization": TOKEN.encode()},
    ]
    files = {"file": ("a.png", encode(draw(0, 55)))}
    for headers in wrong:
        for response in (
            guarded.get("/card", headers=headers),
            guarded.post("/predict", headers=headers, files=files),
        ):
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert "left" not in response.text
    assert guarded.get("/card", headers=bearer(TOKEN)).status_code == 200
    assert guarded.post("/predict", headers=bearer(TOKEN), files=files).status_code == 200
    assert guarded.get("/").status_code == guarded.get("/health").status_code == 200


def test_an_upload_without_the_token_is_not_even_read(guarded: TestClient, monkeypatch) -> None:
    monkeypatch.setattr("starlette.requests.Request.form", lambda *_, **__: pytest.fail("read"))
    response = guarded.post("/predict", files={"file": ("a.png", b"x")})
    assert response.status_code == 401


@pytest.mark.parametrize("token", ["", "  "])
def test_an_empty_token_is_refused(bundle: Bundle, token: str) -> None:
    with pytest.raises(MeninxError, match="MENINX_TOKEN"):
        app(bundle, token)


def test_the_page_shows_the_notice_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/").text
    body = page[page.index("<body>") :]
    assert "not a medical device" in body[: body.index("<script>")]
    assert not re.search(
        r"https?:|//[a-z]+\.|@import|url\(|<script src|<link(?! rel=\"icon\")", page
    )
    # Names from files and bundles are only ever set as text.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)


@pytest.mark.parametrize("address", ["/", "/health", "/card", "/nothing"])
def test_every_answer_forbids_what_a_browser_need_not_do(client: TestClient, address: str) -> None:
    headers = client.get(address).headers
    assert "default-src 'self' 'unsafe-inline' data:" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_refusals_carry_the_headers_too(client: TestClient, guarded: TestClient) -> None:
    too_large = client.post("/predict", content=b"x", headers={"Content-Length": "99999999"})
    for response in (too_large, guarded.get("/card")):
        assert response.status_code in (413, 401)
        assert response.headers["x-content-type-options"] == "nosniff"


def test_no_page_of_documentation_is_offered(client: TestClient) -> None:
    for address in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(address).status_code == 404


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "my-machine"])
def test_other_machines_are_let_in_only_with_a_token(
    bundle: Bundle, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(server.uvicorn, "run", lambda *_, **options: started.append(options))
    with pytest.raises(MeninxError, match="MENINX_TOKEN"):
        serve(bundle, host)
    assert not started
    serve(bundle, host, token=TOKEN)
    assert started[0]["host"] == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_this_machine_only_its_own_names_are_answered(
    bundle: Bundle, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(server.uvicorn, "run", lambda application, **_: started.append(application))
    serve(bundle, host)
    local = TestClient(started[0], base_url="http://127.0.0.1:8000")
    assert local.get("/health").json() == {"status": "ok"}
    assert local.get("/health", headers={"Host": "[::1]:8000"}).status_code == 200
    assert local.get("/card", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("missing", ["fastapi", "python_multipart", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(missing: str, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("meninx.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MeninxError, match=r"pip install 'meninx\[serve\]'"):
        __import__("meninx.serve")


def test_answers_are_json_that_any_reader_takes(client: TestClient) -> None:
    response = client.post("/predict", files={"file": ("a.png", encode(draw(0, 56)))})
    json.loads(response.text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
