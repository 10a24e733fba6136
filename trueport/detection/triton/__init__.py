"""Models on a Triton inference server, reached by gRPC; `TritonDetector` is the door."""

from trueport.detection.triton.detector import TritonDetector

__all__ = ["TritonDetector"]
