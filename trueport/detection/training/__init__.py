"""Trains the embedded model. Nothing here is imported when the product runs; `requirements.txt` has what it needs.

    python -m trueport.detection.training DATA_FOLDER --work WORK_FOLDER

reads labelled texts and the pinned encoder, trains every head at once, and writes the folder `models/guard`.
"""
