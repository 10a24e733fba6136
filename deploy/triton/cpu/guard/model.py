"""The embedded guard model in Triton's Python backend: one encoder answers for `toxicity`, `injection` and `pii`.

Runs inside the server's own Python environment and imports nothing of the gateway. Beside this file lie the model
(`guard.int8.onnx`, `tokenizer.json`, `meta.json`) as the gateway's package has it.

Input  TEXT       BYTES  [rows, 1]
Output TOXICITY   FP32   [rows, heads of the group]   calibrated probabilities
       INJECTION  FP32   [rows, heads of the group]   calibrated probabilities
       LOGITS     FP32   [rows, tokens, labels]
       OFFSETS    INT32  [rows, tokens, 2]            code points of the row; 0, 0 for special tokens and padding
       READ       INT32  [rows, 1]                    code points that fitted into the model
"""

import hashlib
import json
import os
import re
import secrets
from collections import OrderedDict
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton
from tokenizers import Tokenizer

GROUPS = {"TOXICITY": ("toxicity", "bias"), "INJECTION": ("injection", "indirect")}
BATCH = 8
REMEMBERED = 2_048
# WordPiece makes one unknown token of a word beyond 100 letters, and would be blind to a sentence without spaces.
LONG_WORDS = re.compile(r"[^\W\d_]{101,}")
LONG_WORD = 100


class Read:
    """What the model says of one text."""

    __slots__ = ("logits", "offsets", "read", "scores")

    def __init__(self, scores, logits, offsets, read):
        self.scores = scores
        self.logits = logits
        self.offsets = offsets
        self.read = read


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        for name, expected in meta["files"].items():
            actual = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            if actual != expected:
                raise triton.TritonModelException(f"{name} is not the file that meta.json names")
        self.heads = meta["heads"]
        self.labels = len(meta.get("pii_labels", ()))
        self.temperature = float(meta.get("pii_temperature", 1.0))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        around = self.tokenizer.encode("").ids
        self.before, self.after = around[: (len(around) + 1) // 2], around[(len(around) + 1) // 2 :]
        self.most = int(meta.get("max_tokens", 256)) - len(around)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = next(name for name in meta["files"] if name.endswith(".onnx"))
        self.session = onnxruntime.InferenceSession(str(folder / model), options, providers=["CPUExecutionProvider"])
        self.outputs = [*self.heads, *(["pii"] if self.labels else [])]
        # The three served models ask for the same texts at nearly the same time; the encoder reads them once.
        self.remembered = OrderedDict()
        self.key = secrets.token_bytes(32)

    def execute(self, requests):
        """One answer for each request; what they ask together is read together."""
        try:
            asked = [
                [
                    row[0].decode("utf-8", "replace")
                    for row in triton.get_input_tensor_by_name(request, "TEXT").as_numpy()
                ]
                for request in requests
            ]
            known = self.read_all({text for texts in asked for text in texts})
            return [
                self.answer(request, [known[text] for text in texts])
                for request, texts in zip(requests, asked, strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - the type alone: a message may quote the text
            failed = triton.TritonError(f"the guard model failed: {type(error).__name__}")
            return [triton.InferenceResponse(error=failed) for _ in requests]

    def answer(self, request, reads):
        wanted = request.requested_output_names()
        tensors = []
        for name, group in GROUPS.items():
            if name in wanted:
                heads = [head for head in group if head in self.heads]
                values = [[read.scores[head] for head in heads] for read in reads]
                tensors.append(triton.Tensor(name, np.array(values, np.float32)))
        if "LOGITS" in wanted or "OFFSETS" in wanted:
            longest = max(len(read.logits) for read in reads)
            logits = np.zeros((len(reads), longest, self.labels), np.float32)
            offsets = np.zeros((len(reads), longest, 2), np.int32)
            for row, read in enumerate(reads):
                logits[row, : len(read.logits)] = read.logits
                offsets[row, : len(read.logits)] = read.offsets
            tensors += [triton.Tensor("LOGITS", logits), triton.Tensor("OFFSETS", offsets)]
        if "READ" in wanted:
            tensors.append(triton.Tensor("READ", np.array([[read.read] for read in reads], np.int32)))
        return triton.InferenceResponse(output_tensors=[one for one in tensors if one.name() in wanted])

    def read_all(self, texts):
        """Each text with what the model says of it, from memory where it was read before."""
        known, fresh = {}, []
        for text in texts:
            digest = hashlib.blake2b(text.encode("utf-8", "replace"), key=self.key, digest_size=20).digest()
            if digest in self.remembered:
                self.remembered.move_to_end(digest)
                known[text] = self.remembered[digest]
            else:
                fresh.append((text, digest, *self.tokens(text)))
        # Texts of like length together, so that little is spent on padding.
        fresh.sort(key=lambda one: len(one[2]))
        for at in range(0, len(fresh), BATCH):
            batch = fresh[at : at + BATCH]
            for (text, digest, *_), read in zip(batch, self.run(batch), strict=True):
                known[text] = self.remembered[digest] = read
        while len(self.remembered) > REMEMBERED:
            self.remembered.popitem(last=False)
        return known

    def tokens(self, text):
        """Token ids with the special ones around, their offsets, and how many code points of `text` they cover."""
        ids, offsets, start = [], [], 0
        cuts = [at for word in LONG_WORDS.finditer(text) for at in range(word.start(), word.end(), LONG_WORD)]
        for cut in [*cuts, len(text)]:
            encoded = self.tokenizer.encode(text[start:cut], add_special_tokens=False)
            ids += encoded.ids
            offsets += [(start + first, start + last) for first, last in encoded.offsets]
            start = cut
        read = len(text) if len(ids) <= self.most else max(offsets[self.most - 1][1], 1)
        ids = [*self.before, *ids[: self.most], *self.after]
        offsets = [*[(0, 0)] * len(self.before), *offsets[: self.most], *[(0, 0)] * len(self.after)]
        return ids, offsets, read

    def run(self, batch):
        longest = max(len(ids) for _, _, ids, _, _ in batch)
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, (_, _, own, _, _) in enumerate(batch):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        answers = self.session.run(self.outputs, {"input_ids": ids, "attention_mask": mask})
        outputs = dict(zip(self.outputs, answers, strict=True))
        if not all(np.isfinite(values).all() for values in answers):
            raise ValueError("the model gave a number that is none")
        scores = {head: self.probability(head, outputs[head]) for head in self.heads}
        for row, (_, _, own, offsets, read) in enumerate(batch):
            logits = outputs["pii"][row, : len(own)] / self.temperature if self.labels else np.zeros((len(own), 0))
            yield Read({head: scores[head][row] for head in self.heads}, logits, offsets, read)

    def probability(self, head, logits):
        calibration = self.heads[head]
        shifted = logits.astype(np.float64) / calibration["temperature"] + calibration.get("bias", 0.0)
        return 1.0 / (1.0 + np.exp(-np.clip(shifted, -60.0, 60.0)))
