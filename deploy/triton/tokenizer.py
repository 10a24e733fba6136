"""The tokenizer before a full-size model, in Triton's Python backend. `trueport models pull` puts this beside a model's
`tokenizer.json` as guard_tok_…/<version>/model.py.

Input  TEXT            BYTES  [rows, 1]
Output INPUT_IDS       INT64  [rows, tokens]
       ATTENTION_MASK  INT64  [rows, tokens]
       OFFSETS         INT32  [rows, tokens, 2]  code points of the row; 0, 0 for special tokens and padding
       READ            INT32  [rows, 1]          code points that fitted into the model
"""

import json
import os
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import triton_python_backend_utils as triton
from tokenizers import Tokenizer

# Requests are batched only with requests of the same length, so there are few lengths.
LENGTHS = (32, 64, 128, 256, 512)


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        self.most = int(parameters["max_tokens"]["string_value"])
        self.pad = int(parameters["pad_id"]["string_value"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.most)

    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(request, "TEXT").as_numpy()) for request in requests]

    def answer(self, rows):
        try:
            texts = [row[0].decode("utf-8", "replace") for row in rows]
            encoded = self.tokenizer.encode_batch(texts)
            longest = max(len(one.ids) for one in encoded)
            length = next((size for size in LENGTHS if longest <= size <= self.most), max(longest, 1))
            ids = np.full((len(texts), length), self.pad, np.int64)
            mask = np.zeros((len(texts), length), np.int64)
            offsets = np.zeros((len(texts), length, 2), np.int32)
            read = np.zeros((len(texts), 1), np.int32)
            for row, (text, one) in enumerate(zip(texts, encoded, strict=True)):
                ids[row, : len(one.ids)] = one.ids
                mask[row, : len(one.ids)] = 1
                offsets[row, : len(one.ids)] = one.offsets
                # The end of the last token that is left where more did not fit.
                last = max((end for _, end in one.offsets), default=0)
                read[row] = max(last, 1) if one.overflowing else len(text)
            tensors = [("INPUT_IDS", ids), ("ATTENTION_MASK", mask), ("OFFSETS", offsets), ("READ", read)]
            return triton.InferenceResponse(output_tensors=[triton.Tensor(name, values) for name, values in tensors])
        except Exception as error:  # noqa: BLE001 - the type alone: a message may quote the text
            return triton.InferenceResponse(error=triton.TritonError(f"the tokenizer failed: {type(error).__name__}"))
