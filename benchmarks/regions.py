"""Region extraction against detectron2's own predictor loop: the same network, weights and pictures in one run.

`python -m benchmarks.regions [--pictures 6] [--proposals 300] [--depth 101] [--device cpu] [--threads N]`

The network is bottom-up attention's in size and shape: ResNet-101-C4, RoIPool 14 × 14, a dilated res5 on 300 proposals,
1,600 classes, 600 × 1000 pixels; seeded weights, since the published ones cannot be had. Each line is a process of its
own: decode, resize, detect, select, from encoded pictures to stored features. detectron2's line is what its
DefaultPredictor does: one picture a call, float32. Pictures: photographs that scikit-image installs, and seeded scenes.

With `--fpn` the network is ResNet-50-FPN, which torchvision has too.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from stages.regions import d2
from stages.regions.evaluate_starter import photographs, scene
from stages.regions.extract import Engine, extract
from stages.regions.importing.store import Stored
from stages.regions.pictures import decode
from stages.regions.published import backbone
from stages.regions.published.network import PublishedDetector
from stages.regions.published.opening import PublishedNetwork
from stages.regions.published.settings import FasterRCNN
from stages.regions.published.zoo import from_config
from stages.regions.select import POLICIES
from stages.regions.stored import Regions, Storage

MB = 1 << 20
NAMES = (  # detectron2's, ours
    ("proposal_generator.rpn_head.", "rpn.head."),
    ("roi_heads.res5.", "head.res5."),
    ("roi_heads.box_predictor.", "predictor."),
    ("roi_heads.box_head.fc1.", "head.fc6."),
    ("roi_heads.box_head.fc2.", "head.fc7."),
)


@dataclass(frozen=True)
class Way:
    """One line of the table."""

    peer: str  # ours, detectron2 or torchvision
    precision: str
    batch: int

    def __str__(self) -> str:
        return f"{self.peer} {self.precision} batch {self.batch}"


def ways(options: argparse.Namespace) -> list[Way]:
    gpu = options.device.startswith("cuda")
    ours = [Way("ours", "fp32", 1), Way("ours", "fp32", options.batch)]
    if gpu or options.bf16:
        ours.append(Way("ours", "bf16", options.batch))
    if gpu:
        ours += [Way("ours", "tf32", options.batch), Way("ours", "fp16", options.batch)]
    peers = [Way("detectron2", "fp32", 1), *([Way("torchvision", "fp32", 1)] if options.fpn else [])]
    return [*peers, *dict.fromkeys(ours)]


def config(options: argparse.Namespace, folder: Path) -> Any:
    """detectron2's settings for the network, also written to `folder` for ours to read."""
    kind = "FPN" if options.fpn else "C4"
    base = f"COCO-Detection/faster_rcnn_R_{50 if options.fpn else options.depth}_{kind}_3x.yaml"
    from stages.regions.published.zoo import read

    cfg, _ = read(base)
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", options.device
    if not options.fpn:
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = options.short_side, options.short_side * 5 // 3
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1600
        cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIPool"
        cfg.MODEL.RPN.POST_NMS_TOPK_TEST = options.proposals
    (folder / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    return cfg


def detectron2(options: argparse.Namespace, folder: Path) -> nn.Module:
    """detectron2's model with seeded weights; the norms are such that sums stay small through 33 blocks."""
    from detectron2.modeling import build_model

    torch.manual_seed(options.seed)
    cfg = config(options, folder)
    model: Any = build_model(cfg).eval().requires_grad_(False)
    if not options.fpn:
        settings = from_config("benchmark", str(folder / "config.yaml"))
        made = nn.Sequential(*backbone.stage(settings.backbone, 3, 3, stride=1, dilation=2))
        model.roi_heads.res5 = made.eval().requires_grad_(False)  # as BUTD has it
    for name, value in model.state_dict().items():
        if name.endswith("conv3.norm.weight"):
            value.fill_(0.2)
        elif name.endswith("cls_score.weight"):
            value.normal_(0, 0.2)
        elif name.endswith("objectness_logits.weight"):
            value.normal_(0, 0.05)
    moved: nn.Module = model.to(options.device)
    return moved


def ours(options: argparse.Namespace, folder: Path) -> PublishedNetwork:
    """The same weights in our network."""
    weights = detectron2(options, folder).state_dict()
    settings: FasterRCNN = from_config("benchmark", str(folder / "config.yaml"))
    if not options.fpn:
        settings = replace(settings, regions=replace(settings.regions, dilation=2), boxes="proposals")
    model = PublishedDetector(settings)
    renamed = {_renamed(name): value.cpu() for name, value in weights.items()}
    missing, unknown = model.load_state_dict(renamed, strict=False)
    assert all("cell_anchors" in name for name in missing), missing  # detectron2 stores no anchors, they are equal
    assert all(name.startswith(("pixel_", "roi_heads.mask")) for name in unknown), unknown
    backbone.fold(model.requires_grad_(False).eval())
    names = tuple(map(str, range(settings.classes)))
    return PublishedNetwork(model, Stored(folder, {}, names, (), "seeded", "0" * 64, "benchmark", False))


def _renamed(name: str) -> str:
    for theirs, own in NAMES:
        name = own + name.removeprefix(theirs) if name.startswith(theirs) else name
    return name


def pictures(count: int, seed: int) -> list[bytes]:
    """Encoded pictures of 480 to 1024 pixels: photographs first, then scenes."""
    rng = np.random.default_rng(seed)
    found = [Image.open(path).convert("RGB") for path in photographs()[: (count + 1) // 2]]
    found += [Image.fromarray(scene(number).image) for number in range(count - len(found))]
    bodies = []
    for picture in found:
        longest = int(rng.choice([480, 640, 800, 1024]))
        size = tuple(max(1, round(side * longest / max(picture.size))) for side in picture.size)
        file = io.BytesIO()
        picture.resize((size[0], size[1])).save(file, "JPEG", quality=92)
        bodies.append(file.getvalue())
    return bodies


def runner(way: Way, options: argparse.Namespace, folder: Path) -> tuple[Callable[[list[bytes]], Any], Any]:
    """What turns encoded pictures into results, and the network whose parts are timed (ours only)."""
    if way.peer == "ours":
        network = ours(options, folder)
        network.place(options.device, way.precision)  # type: ignore[arg-type]  # a word of Precision
        policy = POLICIES["detectron2" if options.fpn else "fixed-36"]
        engine = Engine(network, policy, Storage(64), options.device, way.batch, 1)
        return lambda bodies: extract([lambda body=body: body for body in bodies], engine), network  # type: ignore[misc]
    if way.peer == "torchvision":
        from torchvision.models.detection import fasterrcnn_resnet50_fpn

        torch.manual_seed(options.seed)
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval().to(options.device)
        return lambda bodies: [theirs([_pixels(decode(body)).to(options.device) / 255]) for body in bodies], None
    model = detectron2(options, folder)
    return lambda bodies: [_predict(model, decode(body), options) for body in bodies], None


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


def _predict(model: nn.Module, picture: Image.Image, options: argparse.Namespace) -> Any:
    """As detectron2's DefaultPredictor: BGR, the shortest side resized by Pillow, one picture a call."""
    from detectron2.data.transforms import ResizeShortestEdge

    short, longest = (800, 1333) if options.fpn else (options.short_side, options.short_side * 5 // 3)
    pixels = np.asarray(picture)[:, :, ::-1]
    resized = ResizeShortestEdge([short, short], longest).get_transform(pixels).apply_image(pixels)
    image = torch.from_numpy(resized.astype("float32").transpose(2, 0, 1)).to(options.device)
    return model([{"image": image, "height": picture.height, "width": picture.width}])[0]


class Parts:
    """Seconds and multiplications of the parts of our network, by hooks."""

    def __init__(self, model: PublishedDetector, device: str) -> None:
        self.seconds, self.operations, self.device = Counter[str](), Counter[str](), device
        for name in ("backbone", "rpn", "pool", "head"):
            part, begun = getattr(model, name), list[float]()
            part.register_forward_pre_hook(lambda *_, begun=begun: begun.append(self.now()))
            part.register_forward_hook(
                lambda *_, name=name, begun=begun: self.seconds.update({name: self.now() - begun.pop()})
            )
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.register_forward_hook(lambda layer, _, out, name=name: self._count(name, layer, out))

    def now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    def _count(self, name: str, layer: nn.Module, out: Tensor) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        self.operations[name] += 2 * out.numel() * weight[0].numel()


def matmul_rate(dtype: torch.dtype, device: str, side: int = 2048) -> float:
    """Operations a second of a plain square product, the best of five."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        float((a @ b)[0, 0])  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def measure(way: Way, options: argparse.Namespace) -> dict[str, Any]:
    """One line, measured in this process: a picture to warm up, then all of them."""
    torch.set_num_threads(options.threads)
    bodies = pictures(options.pictures, options.seed)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        run, network = runner(way, options, Path(folder))
        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(bodies[:1])
        parts = Parts(network.model, options.device) if network else None
        start, cpu = time.perf_counter(), time.process_time()
        results = run(bodies)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    facts: dict[str, Any] = {"seconds": seconds, "cpu": cpu}
    facts["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded) / 1024
    if options.device.startswith("cuda"):
        facts["memory"] = torch.cuda.max_memory_allocated() / MB
    if parts:
        dtype = network.model.dtype
        facts["parts"] = {name: value / seconds for name, value in parts.seconds.items()}
        facts["rate"] = parts.operations["head"] / max(parts.seconds["head"], 1e-9)
        facts["matmul"] = matmul_rate(dtype, options.device)
        path = Path(options.results) / f"{way.precision}-{way.batch}.npz"
        _save(results, path)
    return facts


def _save(results: Sequence[Regions], path: Path) -> None:
    arrays = {f"{name}{row}": getattr(one, name) for row, one in enumerate(results) for name in ("boxes", "features")}
    np.savez(path, **arrays)


def agreement(path: Path, reference: Path, count: int) -> tuple[float, float]:
    """(share of the reference's boxes that are there to half a pixel, mean cosine of their features)."""
    one, other = np.load(path), np.load(reference)
    same, cosines, total = 0, list[float](), 0
    for row in range(count):
        ours, theirs = one[f"boxes{row}"], other[f"boxes{row}"]
        nearest = np.abs(theirs[:, None] - ours[None]).max(axis=2)
        total += len(theirs)
        for k, j in enumerate(nearest.argmin(axis=1)):
            if nearest[k, j] <= 0.5:
                same += 1
                a, b = other[f"features{row}"][k].astype("f8"), one[f"features{row}"][j].astype("f8")
                cosines.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    return same / max(total, 1), float(np.mean(cosines)) if cosines else float("nan")


def same_features(options: argparse.Namespace) -> float:
    """Largest relative difference of our features from detectron2's for the same proposals of one picture."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        network = ours(options, Path(folder))
        network.place("cpu", "fp32")
        picture = decode(pictures(1, options.seed)[0])
        image = network.prepare(picture)[None]
        (found,) = network.detect(image, [(picture.height, picture.width)])
        few = found.proposals_N4[:16]
        model: Any = detectron2(argparse.Namespace(**vars(options) | {"device": "cpu"}), Path(folder))
        images = model.preprocess_image([{"image": image[0].float()}])
        maps = model.backbone(images.tensor)
        names = model.roi_heads.in_features if not options.fpn else model.roi_heads.box_in_features
        boxes = [d2.Boxes(few)]
        if options.fpn:
            pooled = model.roi_heads.box_pooler([maps[name] for name in names], boxes)
            theirs = model.roi_heads.box_head(pooled)
        else:
            theirs = model.roi_heads._shared_roi_transform([maps[name] for name in names], boxes).mean(dim=(2, 3))
        return float((found.features_ND[:16] - theirs).abs().max() / theirs.abs().max())


def table(facts: dict[Way, dict[str, Any]], options: argparse.Namespace) -> Iterator[str]:
    base, count = facts[Way("detectron2", "fp32", 1)], options.pictures
    yield f"{'':26}{'images/s':>10}{'× d2':>7}{'CPU s/image':>13}{'× d2':>7}{'peak MB':>9}{'boxes':>7}{'cosine':>9}"
    reference = Path(options.results) / "fp32-1.npz"
    for way, fact in facts.items():
        text = f"{way!s:26}{count / fact['seconds']:10.3f}{base['seconds'] / fact['seconds']:7.2f}"
        text += f"{fact['cpu'] / count:13.2f}{base['cpu'] / fact['cpu']:7.2f}{fact['memory']:9.0f}"
        if way.peer == "ours":
            path = Path(options.results) / f"{way.precision}-{way.batch}.npz"
            share, cosine = agreement(path, reference, count)
            text += f"{share:7.1%}{cosine:9.5f}"
        yield text
    for way, fact in facts.items():
        if "parts" in fact:
            parts = ", ".join(f"{name} {share:.0%}" for name, share in fact["parts"].items())
            rest = 1 - sum(fact["parts"].values())
            yield (
                f"{way}: {parts}, other {rest:.0%}; head {fact['rate'] / 1e9:.0f} GFLOP/s, "
                f"{fact['rate'] / fact['matmul']:.0%} of a plain matmul's {fact['matmul'] / 1e9:.0f}"
            )


def _has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 (AVX512-BF16 or AMX)."""
    info = Path("/proc/cpuinfo")
    return info.exists() and any(word in info.read_text(encoding="utf-8") for word in ("avx512_bf16", "amx_bf16"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--proposals", type=int, default=300)
    parser.add_argument("--depth", type=int, choices=(50, 101), default=101)
    parser.add_argument("--short-side", type=int, default=600, help="pixels; the longer side at most 5/3 of it")
    parser.add_argument("--fpn", action="store_true", help="ResNet-50-FPN, against torchvision too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        default=_has_bf16(),
        help="default: where the CPU has the instructions; without them it is several times slower than fp32",
    )
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--results", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(Way(**json.loads(options.way)), options)))
        return
    with tempfile.TemporaryDirectory() as results:
        options.results = results
        device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU"
        print(
            f"{device}, {options.threads} threads, torch {torch.__version__}, detectron2 {version('detectron2')}, ",
            end="",
        )
        print(f"{options.pictures} pictures, seed {options.seed}", flush=True)
        print(f"features against detectron2's: largest relative difference {same_features(options):.1e}", flush=True)
        facts = {way: _in_its_own_process(way, results) for way in ways(options)}
        print("\n".join(table(facts, options)))


def _in_its_own_process(way: Way, results: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.regions", *sys.argv[1:]]
    words += ["--way", json.dumps(vars(way)), "--results", results]
    output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    facts: dict[str, Any] = json.loads(output.splitlines()[-1])
    return facts


if __name__ == "__main__":
    main()
