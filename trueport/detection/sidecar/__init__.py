"""A Triton server beside the gateway: its Python environment, its model repository, its process.

For machines without a graphics card the embedded model runs in the server's Python backend, under the same contract
as the full-size models (deploy/triton/README.md).
"""
