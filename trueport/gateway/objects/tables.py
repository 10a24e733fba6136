"""What providers keep for their accounts, and where requests name it and answers bring it into being.

Data only; the modules beside it read it. Sources: https://platform.openai.com/docs/api-reference,
https://docs.anthropic.com/en/api and https://ai.google.dev/api. Google takes every member in camelCase and in
snake_case.

Not bound, because they are made at the provider's own console and not through its API: OpenAI's reusable prompts and
voices, Anthropic's own skills. A fine-tuned model is governed like every other model, by name.
"""

import re
from collections.abc import Mapping
from typing import Final

from trueport.gateway.call import Wire

COLLECTIONS: Final[Mapping[Wire, Mapping[str, str]]] = {
    "openai": {
        "files": "file",
        "uploads": "upload",
        "batches": "batch",
        "responses": "response",
        "conversations": "conversation",
        "chat/completions": "chat_completion",
        "vector_stores": "vector_store",
        "fine_tuning/jobs": "fine_tuning_job",
        "fine_tuning/checkpoints": "checkpoint",
        "containers": "container",
        "assistants": "assistant",
        "threads": "thread",
        "evals": "eval",
        "videos": "video",
        "skills": "skill",
        "chatkit/sessions": "chatkit_session",
        "chatkit/threads": "chatkit_thread",
    },
    "anthropic": {"messages/batches": "batch", "files": "file", "skills": "skill"},
    "google": {
        "files": "file",
        "cachedContents": "cached_content",
        "batches": "batch",
        "operations": "operation",
        "tunedModels": "tuned_model",
        "fileSearchStores": "file_search_store",
        "corpora": "corpus",
        "ragStores": "rag_store",
        "generatedFiles": "generated_file",
        "interactions": "interaction",
    },
}
"""For each wire the paths below which objects lie, `{collection}/{id}`, and the kind of object.

Other paths with something below them that is read, changed or deleted are bound too, under the name of their first
segment: nothing makes such an object here, so none is found.
"""

MEMBERS: Final[Mapping[Wire, Mapping[str, str]]] = {
    "openai": {
        "previous_response_id": "response",
        "conversation": "conversation",
        "conversation_id": "conversation",
        "file_id": "file",
        "file_ids": "file",
        "input_file_id": "file",
        "training_file": "file",
        "validation_file": "file",
        "vector_store_id": "vector_store",
        "vector_store_ids": "vector_store",
        "container": "container",
        "container_id": "container",
        "assistant_id": "assistant",
        "thread_id": "thread",
        "skill_id": "skill",
    },
    "anthropic": {
        "file_id": "file",
        "file_ids": "file",
        "container": "container",
        "container_id": "container",
        "skill_id": "skill",
    },
    "google": {
        "cachedContent": "cached_content",
        "fileName": "file",
        "fileUri": "file",
        "uri": "file",
        "fileSearchStoreNames": "file_search_store",
        "tunedModel": "tuned_model",
        "source": "corpus",
        "previousInteractionId": "interaction",
        "operationName": "operation",
    },
}
"""Members of a body that name an object, wherever in it they stand: an id, a list of ids, or an object with an `id`."""

ITEMS: Final[Mapping[str, str | None]] = {
    "item_reference": None,
    "reasoning": "encrypted_content",
    "image_generation_call": "result",
}
"""Input items of OpenAI's Responses that stand for what an earlier response made, by type.

Beside each is the member that makes it complete in itself, so that the provider looks nothing up. An item with an
`id` and neither type nor role is a reference as well.
"""

OPAQUE: Final[Mapping[Wire, frozenset[str]]] = {
    "openai": frozenset({"metadata", "parameters", "schema", "annotations", "results", "attributes", "arguments"}),
    "anthropic": frozenset({"metadata", "input_schema", "input", "citations"}),
    "google": frozenset(
        {"parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema", "response", "args", "labels"}
    ),
}
"""Members below which stand the client's own words, schemas, or what an earlier answer told: nothing is looked up."""

CURSORS: Final[Mapping[Wire, frozenset[str]]] = {
    "openai": frozenset({"after", "before"}),
    "anthropic": frozenset({"after_id", "before_id"}),
    "google": frozenset(),
}
"""Parameters of a list's query that name one of its objects."""

MADE: Final[Mapping[Wire, Mapping[str, tuple[tuple[str, str], ...]]]] = {
    "openai": {
        "POST files": (("file", "id"),),
        "POST uploads": (("upload", "id"),),
        "POST uploads/*/complete": (("file", "file.id"),),
        "POST batches": (("batch", "id"),),
        "GET batches/*": (("file", "output_file_id"), ("file", "error_file_id")),
        "POST batches/*/cancel": (("file", "output_file_id"), ("file", "error_file_id")),
        "POST conversations": (("conversation", "id"),),
        "POST vector_stores": (("vector_store", "id"),),
        "POST fine_tuning/jobs": (("fine_tuning_job", "id"),),
        "GET fine_tuning/jobs/*": (("file", "result_files"), ("model", "fine_tuned_model")),
        "POST containers": (("container", "id"),),
        "POST assistants": (("assistant", "id"),),
        "POST threads": (("thread", "id"),),
        "POST threads/runs": (("thread", "thread_id"),),
        "GET threads/*/messages": (("file", "data.content.image_file.file_id"),),
        "GET threads/*/messages/*": (("file", "content.image_file.file_id"),),
        "POST evals": (("eval", "id"),),
        "POST videos": (("video", "id"),),
        "POST videos/*/remix": (("video", "id"),),
        "POST skills": (("skill", "id"),),
        "POST chatkit/sessions": (("chatkit_session", "id"),),
    },
    "anthropic": {
        "POST messages/batches": (("batch", "id"),),
        "POST files": (("file", "id"),),
        "POST skills": (("skill", "id"),),
    },
    "google": {
        "POST files": (("file", "file.name"),),
        "POST cachedContents": (("cached_content", "name"),),
        "POST batchGenerateContent": (("batch", "name"),),
        "POST asyncBatchEmbedContent": (("batch", "name"),),
        "GET batches/*": (
            ("file", "response.responsesFile"),
            ("file", "metadata.output.responsesFile"),
            ("file", "dest.fileName"),
        ),
        "POST predictLongRunning": (("operation", "name"),),
        "GET models/*/operations/*": (("file", "response.generateVideoResponse.generatedSamples.video.uri"),),
        "POST tunedModels": (("tuned_model", "name"), ("tuned_model", "metadata.tunedModel")),
        "POST fileSearchStores": (("file_search_store", "name"),),
        "POST corpora": (("corpus", "name"),),
        "POST interactions": (("interaction", "id"),),
    },
}
"""For each request, its ids as asterisks, the kinds and places of the ids that its answer brings into being.

A place goes through lists. Only ids that the provider chose are here: an answer that repeats what the client sent
would let a client name another's object as its own. What a request for one object shows, a list of them shows too.
"""


ACCOUNT_WIDE: Final = frozenset({"stored_completions", "logs"})
"""Sources of OpenAI's evaluations that are everything an account has kept, whoever made it: never found."""

STATELESS: Final = frozenset(
    {"threads/runs", "fine_tuning/alpha/graders/run", "fine_tuning/alpha/graders/validate"}
)  # fmt: skip
"""Paths of a verb where others have an id."""


def snake(name: str) -> str:
    """The other spelling that Google takes."""
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)
