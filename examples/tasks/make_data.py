"""Makes data to try the examples of tasks with: `python examples/tasks/make_data.py recordings FOLDER`."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw

Samples = np.ndarray


def tone(high: bool, seed: int, rate: int = 16_000, channels: int = 1) -> Samples:
    """A low or a high tone in noise, a third to half a second long; (samples, channels)."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(rate * generator.uniform(0.33, 0.5))) / rate
    wave = 0.5 * np.sin(2 * np.pi * (1800 if high else 300) * generator.uniform(0.8, 1.2) * time)
    hiss = 0.1 * generator.standard_normal(len(time))
    return np.stack([wave + hiss] * channels, axis=1)


def recordings(folder: Path, count: int = 60) -> Path:
    """Tones in the folders `high` and `low`: FLAC at 16 kHz, and WAV in two channels at 22.05 kHz."""
    for n in range(count):
        pitch = ["high", "low"][n % 2]
        (folder / pitch).mkdir(parents=True, exist_ok=True)
        rate, channels, ending = (16_000, 1, "flac") if n % 4 < 2 else (22_050, 2, "wav")
        soundfile.write(folder / pitch / f"{n}.{ending}", tone(pitch == "high", n, rate, channels), rate)
    return folder


def tastes(folder: Path, users: int = 60, items: int = 40, each: int = 15) -> Path:
    """interactions.csv (user, item, rating): every user likes one of two kinds of items, and rates others low."""
    generator = np.random.default_rng(0)
    lines = ["user,item,rating"]
    for user in range(users):
        liked = [item for item in range(items) if item % 2 == user % 2]
        others = [item for item in range(items) if item % 2 != user % 2]
        chosen = [*generator.permutation(others)[: each // 5], *generator.permutation(liked)[: each - each // 5]]
        lines += [f"user-{user},item-{item},{5 if item % 2 == user % 2 else 2}" for item in chosen]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n")
    return folder / "interactions.csv"


COLOURS = {"parcel": (255, 220, 0), "pallet": (0, 120, 255)}


def scene(seed: int) -> tuple[Image.Image, list[tuple[str, list[int]]]]:
    """A bright rectangle in one or two quarters of a dark image; each with x, y, width and height."""
    generator = np.random.default_rng(seed)
    width, height = (int(side) for side in generator.integers(48, 65, 2))
    image = Image.fromarray(generator.integers(0, 40, (height, width, 3), dtype=np.uint8))
    found = []
    for quarter in generator.permutation(4)[: 1 + (seed % 8 == 0)]:
        name = str(generator.choice(list(COLOURS)))
        w, h = (int(generator.uniform(0.36, 0.44) * side) for side in (width, height))
        x = int(quarter % 2 * width / 2 + generator.integers(0, width // 2 - w))
        y = int(quarter // 2 * height / 2 + generator.integers(0, height // 2 - h))
        ImageDraw.Draw(image).rectangle((x, y, x + w - 1, y + h - 1), fill=COLOURS[name])
        found.append((name, [x, y, w, h]))
    return image, found


def scenes(folder: Path, count: int = 80) -> Path:
    """Images of coloured rectangles in `images`, and COCO's annotations in annotations/instances.json."""
    names = list(COLOURS)
    coco: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    coco["categories"] = [{"id": place, "name": name} for place, name in enumerate(names, 1)]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for n in range(count):
        image, found = scene(n)
        image.save(folder / "images" / f"{n}.png")
        coco["images"].append({"id": n, "file_name": f"{n}.png", "width": image.width, "height": image.height})
        for name, box in found:
            record = {"id": len(coco["annotations"]) + 1, "image_id": n, "category_id": names.index(name) + 1}
            coco["annotations"].append({**record, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    (folder / "annotations" / "instances.json").write_text(json.dumps(coco))
    return folder


def scenes_in_parts(folder: Path) -> Path:
    """The same, with annotations of their own for four fifths of the images and for the rest."""
    scenes(folder)
    whole = folder / "annotations" / "instances.json"
    coco = json.loads(whole.read_text())
    for part, wanted in {"train": (1, 2, 3, 4), "val": (0,)}.items():
        images = [image for image in coco["images"] if image["id"] % 5 in wanted]
        boxes = [box for box in coco["annotations"] if box["image_id"] % 5 in wanted]
        text = json.dumps({**coco, "images": images, "annotations": boxes})
        whole.with_name(f"instances_{part}.json").write_text(text)
    whole.unlink()
    return folder


PRODUCTS = ["kettle", "desk lamp", "headset", "bike rack", "office chair", "hand mixer"]
MESSAGES = {
    "billing": ["Order {order} was charged twice", "The invoice of {order} for the {product} is wrong"],
    "delivery": ["Where is the {product} of order {order}", "Order {order} came without the {product}"],
    "technical": ["The {product} from {order} does not switch on", "My {product} makes a noise since order {order}"],
}
GREETINGS = ["Hello.", "Good morning,", "Hi there!", "Dear team,", ""]
QUESTIONS = {"order": "Which order is it about?", "product": "Which product is it about?"}


def message(seed: int) -> tuple[str, str, dict[str, tuple[int, str]]]:
    """What a customer writes, whom it is for, and where it names an order and a product."""
    generator = np.random.default_rng(seed)
    queue = list(MESSAGES)[seed % len(MESSAGES)]
    words = {"order": f"{'ABCDEFGH'[seed % 8]}{generator.integers(1000, 9999)}"}
    template = str(generator.choice(MESSAGES[queue]))
    if "{product}" in template:
        words["product"] = str(generator.choice(PRODUCTS))
    text = f"{generator.choice(GREETINGS)} {template.format(**words)}, please help.".strip()
    return text, queue, {name: (text.index(word), word) for name, word in words.items()}


def support(folder: Path, count: int = 240) -> Path:
    """intents.jsonl, entities.jsonl and answers.jsonl: three things to find in the messages of customers."""
    lines: dict[str, list[dict[str, object]]] = {"intents": [], "entities": [], "answers": []}
    for n in range(count):
        text, queue, named = message(n)
        lines["intents"].append({"body": text, "queue": queue})
        text, _, named = message(count + n)
        spans = [{"start": s, "end": s + len(word), "label": name.upper()} for name, (s, word) in named.items()]
        lines["entities"].append({"text": text, "entities": sorted(spans, key=lambda span: span["start"])})
        text, _, named = message(2 * count + n)
        asked = list(named)[n % len(named)]
        answers = {"text": [named[asked][1]], "answer_start": [named[asked][0]]}
        lines["answers"].append({"question": QUESTIONS[asked], "context": text, "answers": answers})
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "recordings": recordings,
    "scenes": scenes_in_parts,
    "support": support,
    "tastes": tastes,
}


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(KINDS[arguments.kind](arguments.folder))


if __name__ == "__main__":
    main()
