"""The networks that benchmarks/regions.py compares: one set of seeded weights in detectron2's model and in ours."""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from stages.regions import d2
from stages.regions.extract import Engine, extract
from stages.regions.pictures import decode
from stages.regions.published import backbone
from stages.regions.published.network import PublishedDetector
from stages.regions.published.opening import PublishedNetwork
from stages.regions.published.settings import FasterRCNN
from stages.regions.published.store import Weights
from stages.regions.published.zoo import from_config
from stages.regions.select import POLICIES
from stages.regions.starter.evaluate import photographs, scene
from stages.regions.stored import Storage

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
    """detectron2's model with seeded weights. The norms are such that sums stay small through 33 blocks."""
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
    return PublishedNetwork(model, Weights(folder, {}, names, (), "seeded", "0" * 64, "benchmark", False))


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
        engine = Engine(network, policy, Storage(64), options.device, way.batch, options.decoders)
        return lambda bodies: extract([lambda body=body: body for body in bodies], engine), network  # type: ignore[misc]
    torch.backends.cudnn.allow_tf32 = way.precision == "tf32"
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
