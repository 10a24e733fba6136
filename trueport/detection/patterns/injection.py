"""Phrases of injections and jailbreaks: precise, so that a hit explains itself, and far from complete.

Each phrase says what somebody wants of the model and not what a text is about: "ignore all previous instructions" is
one, "prompt injection" is none. They find a part of the attacks, and the models the rest.
"""

from collections.abc import Sequence
from typing import Final

from trueport.detection.patterns.rules import Match, Rule, RuleBook
from trueport.detection.types import Category, Role

CATEGORIES: Final[frozenset[Category]] = frozenset({"prompt_injection", "jailbreak", "indirect_injection"})
_DOCUMENTS: Final[frozenset[Role]] = frozenset({"tool_result", "document"})
# System prompts and what tools are for consist of instructions.
_UNREAD: Final[frozenset[Role]] = frozenset({"system", "tool_definition"})

# Between two words: white space, punctuation, or nothing where letters were pushed together.
_GAP: Final = r"[\s\pP\pS]{0,4}"
_FEW = r"(?:[^.!?\n]{0,40}?)"
_ALL = rf"(?:(?:all|any|every|each|the|of|your|my|our|these|those|this|that|its|other|such|and){_GAP}){{0,4}}"
_EARLIER = (
    rf"(?:previous(?:ly)?|prior|above|preceding|earlier|former|initial|original|existing|foregoing|past|current|"
    rf"system|safety|given|pre{_GAP}existing|aforementioned)"
)
_ORDERS = (
    r"(?:instructions?|directions?|directives?|commands?|orders?|rules?|guidelines?|guidance|prompts?|constraints?|"
    r"restrictions?|policy|policies|programming|training|context|messages?|conversation|filters?|safeguards?|"
    r"limitations?|assignments?|tasks?|directions?|instruct|text|inputs?|content)"
)
_DROP = (
    rf"(?:ignore|ignoring|disregard(?:ing)?|forget(?:ting)?|overlook|override|overriding|bypass(?:ing)?|skip|neglect|"
    rf"discard|dismiss|drop|erase|clear|void|cancel|stop{_GAP}following|stop{_GAP}obeying|do{_GAP}not{_GAP}follow|"
    rf"don{_GAP}t{_GAP}follow|do{_GAP}not{_GAP}obey|pay{_GAP}no{_GAP}attention{_GAP}to|set{_GAP}aside|"
    rf"throw{_GAP}(?:away|out)|delete)"
)
_SHOW = (
    rf"(?:reveal|show|print|repeat|output|display|tell|give|write|list|share|leak|expose|dump|return|echo|recite|"
    rf"disclose|spell{_GAP}out|copy|paste|summari[sz]e|translate|encode|what(?:{_GAP}s|{_GAP}is|{_GAP}are|{_GAP}was|"
    rf"{_GAP}were)|"
    rf"provide|describe|reproduce|quote)"
)
_HIDDEN = (
    r"(?:system|initial|hidden|secret|original|internal|developer|base|core|underlying|full|entire|exact|"
    r"confidential|complete|pre)"
)
_FREE = (
    rf"(?:no|without|free{_GAP}(?:of|from)|never{_GAP}bound{_GAP}by|not{_GAP}bound{_GAP}by|unbound{_GAP}by|"
    rf"lacks?|ignores?|bypass(?:es)?)"
)
_LIMITS = (
    rf"(?:restrictions?|limits?|limitations?|filters?|rules|guidelines|censorship|ethics|ethical|moral(?:s|ity)?|"
    rf"boundaries|constraints?|safeguards?|guardrails?|policies|content{_GAP}polic(?:y|ies)|inhibitions?|warnings?)"
)

_INJECTION: Final = "prompt_injection"
_JAILBREAK: Final = "jailbreak"
_INDIRECT: Final = "indirect_injection"


def _rule(category: Category, reason: str, expression: str, cues: tuple[str, ...], score: float = 0.9) -> Rule:
    kind = {"prompt_injection": "INJECTION", "jailbreak": "JAILBREAK", "indirect_injection": "INDIRECT"}[category]
    return Rule(category, kind, reason, f"(?i){expression}", cues, score=score)


RULES: Final[tuple[Rule, ...]] = (
    # Orders to drop what was said before
    _rule(
        _INJECTION,
        "drop_earlier_orders",
        rf"\b{_DROP}{_GAP}{_ALL}{_EARLIER}{_GAP}(?:\pL+{_GAP}){{0,2}}?{_ORDERS}",
        (
            "ignor",
            "disregard",
            "forget",
            "overlook",
            "overrid",
            "bypass",
            "skip",
            "neglect",
            "discard",
            "dismiss",
            "drop",
            "erase",
            "clear",
            "void",
            "cancel",
            "stop",
            "not",
            "don.?t",
            "attention",
            "aside",
            "throw",
            "delete",
        ),
    ),
    _rule(
        _INJECTION,
        "drop_orders",
        rf"\b(?:ignore|disregard|forget|override){_GAP}{_ALL}(?:\pL+{_GAP}){{0,2}}?"
        rf"(?:instructions?|directives?|guidelines|commands|prompts?|orders)\b",
        ("ignore", "disregard", "forget", "override"),
        0.75,
    ),
    _rule(
        _INJECTION,
        "drop_orders_given",
        rf"\b{_DROP}{_GAP}{_ALL}{_ORDERS}{_GAP}(?:(?:that|which){_GAP})?(?:you{_GAP}(?:have{_GAP}|were{_GAP}|"
        rf"had{_GAP})?(?:been{_GAP})?"
        rf"(?:given|told|received)|above|before|so{_GAP}far|from{_GAP}(?:before|above|earlier)|until{_GAP}now|"
        rf"i{_GAP}gave)",
        ("ignor", "disregard", "forget", "overrid", "bypass", "not follow", "discard", "dismiss", "stop"),
    ),
    _rule(
        _INJECTION,
        "drop_everything",
        rf"\b(?:ignore|disregard|forget){_GAP}(?:about{_GAP})?(?:everything|anything|all(?:{_GAP}of{_GAP}(?:it|that|"
        rf"this))?|"
        rf"what(?:ever)?){_GAP}(?:you{_GAP}(?:have{_GAP}been{_GAP}|were{_GAP}|ve{_GAP}been{_GAP})?(?:told|know|"
        rf"learned|said)|i{_GAP}said|"
        rf"above|before|prior|previous(?:ly)?|that{_GAP}(?:came|was|has){_GAP}(?:before|been|said)|"
        rf"up{_GAP}to{_GAP}(?:now|this)|so{_GAP}far)",
        ("ignore", "disregard", "forget"),
    ),
    _rule(
        _INJECTION,
        "drop_your_orders",
        rf"\b{_DROP}{_GAP}(?:all{_GAP}(?:of{_GAP})?)?your{_GAP}(?:\pL+{_GAP}){{0,2}}?(?:instructions?|rules|"
        rf"guidelines|programming|"
        rf"directives?|prompts?|constraints?|restrictions?|polic(?:y|ies)|filters?|safeguards?|training|safety)",
        ("your",),
    ),
    _rule(
        _INJECTION,
        "new_orders",
        rf"\b(?:(?:here|these|below|following)(?:{_GAP}(?:are|is|come))?{_GAP})?(?:your{_GAP})?(?:new|updated|"
        rf"revised|real|actual|true)"
        rf"{_GAP}(?:instructions?|orders?|task|directives?|rules|system{_GAP}prompt|goal|objective|mission){_GAP}"
        rf"(?:are|is|:|follows?|now|below|will{_GAP}be)",
        ("new", "updated", "revised", "real", "actual", "true"),
        0.75,
    ),
    _rule(
        _INJECTION,
        "from_now_on",
        rf"\bfrom{_GAP}(?:now{_GAP}on|this{_GAP}(?:point|moment){_GAP}(?:on(?:ward)?s?|"
        rf"forward)){_GAP}(?:,{_GAP})?(?:you{_GAP}(?:are|will{_GAP}be|must{_GAP}act"
        rf"|will{_GAP}act|shall|act|have{_GAP}no|no{_GAP}longer)|act{_GAP}as|behave|respond{_GAP}(?:only|as)|"
        rf"answer{_GAP}(?:only|as))",
        ("from.{0,3}now.{0,3}on", "this.{0,3}point", "this.{0,3}moment"),
        0.7,
    ),
    _rule(
        _INJECTION,
        "instead_do",
        rf"\b(?:ignore|disregard|forget){_GAP}{_FEW}(?:and|then|,|instead|just){_GAP}(?:instead{_GAP})?(?:only{_GAP})?"
        rf"(?:say|print|output|write|respond|reply|answer|tell|reveal|execute|return|show|do|repeat|start|give)\b",
        ("ignore", "disregard", "forget"),
        0.7,
    ),
    _rule(
        _INJECTION,
        "stop_being",
        rf"\byou{_GAP}(?:are|re){_GAP}(?:no{_GAP}longer|not){_GAP}(?:an?{_GAP})?(?:ai|assistant|chat{_GAP}?gpt|"
        rf"language{_GAP}model|bound|"
        rf"restricted|limited|required{_GAP}to{_GAP}follow|chatbot|translator)",
        ("no.{0,3}longer", "not"),
    ),
    # Orders to tell the system prompt or a secret
    _rule(
        _INJECTION,
        "reveal_prompt",
        rf"\b{_SHOW}{_GAP}(?:(?:me|us|back|out|in|to|the|all|of|your|with|your|verbatim|word|"
        rf"for){_GAP}){{0,5}}{_HIDDEN}{_GAP}"
        rf"(?:\pL+{_GAP}){{0,1}}?(?:prompts?|instructions?|messages?|directives?|guidelines|rules|configuration|"
        rf"context)",
        (
            "system",
            "initial",
            "hidden",
            "secret",
            "original",
            "internal",
            "developer",
            "base",
            "core",
            "underlying",
            "full",
            "entire",
            "exact",
            "confidential",
            "complete",
            "pre",
        ),
        0.8,
    ),
    _rule(
        _INJECTION,
        "reveal_your_prompt",
        rf"\b{_SHOW}{_GAP}(?:(?:me|us|back|out|all|of|the){_GAP}){{0,3}}your{_GAP}(?:\pL+{_GAP}){{0,2}}?"
        rf"(?:prompt|instructions|directives|guidelines|system{_GAP}message|programming|configuration)\b",
        ("your",),
        0.75,
    ),
    _rule(
        _INJECTION,
        "repeat_above",
        rf"\b(?:repeat|print|output|copy|echo|write|recite|paste|return|summari[sz]e|translate|"
        rf"tell){_GAP}(?:me{_GAP})?(?:back{_GAP})?"
        rf"(?:exactly{_GAP})?(?:all{_GAP}(?:of{_GAP})?|everything{_GAP}|every{_GAP}\pL+{_GAP}|"
        rf"the{_GAP}){{0,3}}(?:(?:text|words|content|sentences?|"
        rf"instructions?|lines?|messages?|prompt|conversation|document|anything|characters?){_GAP})?"
        rf"(?:above|before{_GAP}this|preceding|prior{_GAP}to{_GAP}this|that{_GAP}(?:came|was|appears){_GAP}before|"
        rf"starting{_GAP}(?:with|from){_GAP}(?:the{_GAP}(?:words|phrase){_GAP})?.?you{_GAP}are)",
        ("above", "before", "preceding", "prior", "you.{0,3}are"),
        0.75,
    ),
    _rule(
        _INJECTION,
        "reveal_secret",
        rf"\b(?:reveal|tell|give|say|spell|leak|disclose|share|hint|print|write|encode|what(?:{_GAP}s|{_GAP}is)){_GAP}"
        rf"(?:(?:me|us|out|the|your|that|a|about){_GAP}){{0,4}}(?:secret|hidden){_GAP}(?:password|key|word|phrase|"
        rf"code|token|flag|instructions?)",
        ("secret", "hidden"),
        0.75,
    ),
    _rule(
        _INJECTION,
        "initial_text",
        rf"\byour{_GAP}(?:initiali[sz]ation|initial|starting|first|preloaded|built.?in|original){_GAP}"
        rf"(?:text|prompt|instructions?|words|message|setup|lines?)\b",
        ("your",),
        0.75,
    ),
    _rule(
        _INJECTION,
        "what_were_you_told",
        rf"\bwhat{_GAP}(?:instructions?|rules|prompt|directives|guidelines){_GAP}(?:were|have|did|are){_GAP}you{_GAP}"
        rf"(?:been{_GAP})?(?:given|told|receive|following|programmed)",
        ("what",),
        0.75,
    ),
    # Turns and templates that a user's text has no business with
    _rule(
        _INJECTION,
        "chat_template",
        r"<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|begin_of_text|start_header_id|end_header_id|"
        r"eot_id|endofprompt)\|>",
        (r"<\|",),
        0.85,
    ),
    _rule(
        _INJECTION,
        "llama_template",
        r"(?:<<\s{0,2}/?SYS\s{0,2}>>|\[/?INST\]|</?s>\s{0,2}\[INST\])",
        ("sys", "inst"),
        0.85,
    ),
    _rule(
        _INJECTION,
        "fake_turn",
        rf"(?:^|\n)\s{{0,4}}[#*\[<({{]{{0,3}}\s?(?:system|admin(?:istrator)?|developer|root)(?:{_GAP}(?:message|"
        rf"prompt|override|note|instruction|update|command))?"
        rf"\s?[\]>)}}*#]{{0,3}}\s?:\s{{0,4}}{_FEW}(?:you|ignore|override|disregard|must|now|new|from{_GAP}now|"
        rf"the{_GAP}user|reveal|print|enable|grant)\b",
        ("system", "admin", "developer", "root"),
        0.8,
    ),
    _rule(
        _INJECTION,
        "system_override",
        rf"\b(?:system|admin(?:istrator)?|developer|security|safety|debug|root|sudo|maintenance|"
        rf"emergency){_GAP}(?:level{_GAP})?"
        rf"(?:override|bypass|unlock|jailbreak)\b",
        ("override", "bypass", "unlock", "jailbreak"),
        0.75,
    ),
    _rule(
        _INJECTION,
        "end_of_prompt",
        rf"(?:={{3,}}|-{{3,}}|#{{3,}}|\*{{3,}}|<|\[){_GAP}(?:end|"
        rf"stop){_GAP}(?:of{_GAP})?(?:the{_GAP})?(?:system{_GAP})?(?:prompt|instructions?|input|context|document|"
        rf"text|user{_GAP}input|conversation)",
        ("end", "stop"),
        0.7,
    ),
    _rule(
        _INJECTION,
        "authority_claim",
        rf"\bi{_GAP}(?:am|m){_GAP}(?:the|your|an?|one{_GAP}of){_GAP}(?:\pL+{_GAP}){{0,2}}?(?:developer|creator|"
        rf"administrator|admin|owner|engineer|programmer|maker)s?\b"
        rf"{_FEW}(?:ignore|reveal|override|unlock|disable|bypass|give{_GAP}me|show{_GAP}me|tell{_GAP}me|grant|debug|"
        rf"you{_GAP}(?:must|can|should|will))",
        ("developer", "creator", "admin", "owner", "engineer", "programmer", "maker"),
        0.75,
    ),
    _rule(
        _INJECTION,
        "only_say",
        rf"\b(?:respond|reply|answer|output|say|print){_GAP}(?:only{_GAP}|just{_GAP}|exactly{_GAP}|"
        rf"nothing{_GAP}but{_GAP}|always{_GAP}){{1,2}}(?:with{_GAP})?"
        rf"[\"'“‘`]?(?:i{_GAP}have{_GAP}been{_GAP}|i{_GAP}was{_GAP})?(?:pwned|hacked|owned|haha{_GAP}pwned)",
        ("pwned", "hacked", "owned"),
        0.9,
    ),
    _rule(
        _INJECTION,
        "pwned",
        rf"\bi{_GAP}have{_GAP}been{_GAP}(?:pwned|hacked|owned)\b",
        ("pwned", "hacked", "owned"),
        0.85,
    ),
    # Jailbreaks
    _rule(
        _JAILBREAK,
        "named_persona",
        rf"\b(?:you{_GAP}(?:are|re|will{_GAP}be){_GAP}(?:now{_GAP}|going{_GAP}to{_GAP}be{_GAP})?|act{_GAP}(?:like|"
        rf"as){_GAP}|pretend{_GAP}(?:to{_GAP}be|you{_GAP}are){_GAP}|"
        rf"become{_GAP}|be{_GAP}|enter{_GAP}|activate{_GAP}|enable{_GAP}|simulate{_GAP}|imitate{_GAP}|"
        rf"play{_GAP}(?:the{_GAP}role{_GAP}of{_GAP})?|roleplay{_GAP}(?:as{_GAP})?|as{_GAP}|hello{_GAP}|hi{_GAP})"
        rf"(?:an?{_GAP}|the{_GAP}|a{_GAP}new{_GAP})?[\"'“‘]?(?:d\.?a\.?n\.?|stan|dude|aim|mongo{_GAP}tom|jailbreak|"
        rf"evil{_GAP}(?:bot|confidant|gpt|ai|chatgpt)|"
        rf"anti{_GAP}?(?:gpt|chatgpt|dan)|betterdan|dev{_GAP}?mode|developer{_GAP}mode|god{_GAP}mode|chaos{_GAP}?gpt|"
        rf"machiavelli|maximum|omega|unrestricted{_GAP}(?:ai|mode|gpt))\b",
        (
            "dan",
            r"d\.a\.n",
            "stan",
            "dude",
            "aim",
            "mongo",
            "jailbreak",
            "evil",
            "anti",
            "mode",
            "chaos",
            "machiavelli",
            "maximum",
            "omega",
            "unrestricted",
        ),
    ),
    _rule(
        _JAILBREAK,
        "do_anything_now",
        rf"\b(?:do|say|answer|generate){_GAP}anything{_GAP}now\b",
        ("anything",),
    ),
    _rule(
        _JAILBREAK,
        "developer_mode",
        rf"\b(?:enable|enter|activate|switch{_GAP}(?:to|into)|turn{_GAP}on|simulate|with|in|"
        rf"unlock){_GAP}(?:\pL+{_GAP}){{0,2}}?"
        rf"(?:developer|debug|god|admin|jailbreak|dan|unrestricted|unfiltered|uncensored|sudo|root){_GAP}mode\b",
        ("mode",),
    ),
    _rule(
        _JAILBREAK,
        "mode_output",
        rf"[\[(]?(?:🔓|jail{_GAP}?break|dan|developer{_GAP}mode(?:{_GAP}output)?|jailbroken|unfiltered|"
        rf"evil)[\])]?{_GAP}[:=]",
        ("🔓", "jail", "dan", "developer", "unfiltered", "evil"),
        0.7,
    ),
    _rule(
        _JAILBREAK,
        "free_of_limits",
        rf"\b(?:you|it|he|she|they|who|which|that|ai|model|assistant|character|persona|chatbot|bot)\b{_FEW}"
        rf"(?:{_FREE}{_GAP}(?:any{_GAP}|all{_GAP}|its{_GAP}|your{_GAP}|the{_GAP}|of{_GAP}|"
        rf"\pL+{_GAP}){{0,3}}{_LIMITS}|(?:unrestricted|uncensored|unfiltered|amoral|"
        rf"unethical|immoral|unbound(?:ed)?|jailbroken))\b",
        (
            "restriction",
            "limit",
            "filter",
            "rules",
            "guideline",
            "censor",
            "ethic",
            "moral",
            "boundar",
            "constraint",
            "safeguard",
            "guardrail",
            "polic",
            "inhibition",
            "warning",
            "unrestricted",
            "unfiltered",
            "unbound",
            "jailbroken",
        ),
        0.75,
    ),
    _rule(
        _JAILBREAK,
        "never_refuse",
        rf"\b(?:you{_GAP}|must{_GAP}|will{_GAP}|shall{_GAP}|can{_GAP}|should{_GAP}|it{_GAP}|he{_GAP}|"
        rf"always{_GAP}){{1,3}}(?:never|not|cannot|can{_GAP}t|don{_GAP}t|won{_GAP}t)"
        rf"{_GAP}(?:ever{_GAP})?(?:refuse|decline|reject|say{_GAP}(?:no|you{_GAP}can|that{_GAP}you|sorry|"
        rf"you{_GAP}are{_GAP}not)|deny|apologi[sz]e)\b",
        ("refuse", "decline", "reject", "say", "deny", "apologi"),
        0.75,
    ),
    _rule(
        _JAILBREAK,
        "answer_anything",
        rf"\b(?:answer|respond{_GAP}to|comply{_GAP}with|fulfil?l?|obey|follow){_GAP}(?:to{_GAP})?(?:any|every|all|"
        rf"each){_GAP}(?:of{_GAP}my{_GAP})?(?:\pL+{_GAP}){{0,2}}?"
        rf"(?:questions?|requests?|prompts?|commands?|orders?){_FEW}(?:without|no{_GAP}matter|regardless|"
        rf"even{_GAP}if|unfiltered|ignoring|how(?:ever)?{_GAP})",
        ("without", "matter", "regardless", "even", "unfiltered", "ignoring", "how"),
        0.8,
    ),
    _rule(
        _JAILBREAK,
        "two_answers",
        rf"\b(?:two|both|2){_GAP}(?:different{_GAP}|separate{_GAP})?(?:responses?|answers?|ways|replies|"
        rf"outputs?)\b{_FEW}"
        rf"(?:one{_GAP})?(?:as{_GAP}|normal|standard|classic|first)\b[^\n]{{0,120}}(?:dan|jailbreak|developer|"
        rf"unfiltered|evil|unrestricted)",
        ("dan", "jailbreak", "developer", "unfiltered", "evil", "unrestricted"),
        0.85,
    ),
    _rule(
        _JAILBREAK,
        "stay_in_character",
        rf"\b(?:stay|remain|keep|be){_GAP}in{_GAP}character\b{_FEW}(?:no{_GAP}matter|always|never|"
        rf"at{_GAP}all{_GAP}times|if{_GAP}you|whatever|until)",
        ("character",),
        0.65,
    ),
    _rule(
        _JAILBREAK,
        "token_game",
        rf"\byou{_GAP}(?:have|start{_GAP}with|lose|will{_GAP}lose){_GAP}(?:\d{{1,4}}{_GAP}|all{_GAP}|"
        rf"some{_GAP})?(?:tokens?|credits?|points?)\b{_FEW}"
        rf"(?:refuse|reject|die|shut{_GAP}down|every{_GAP}time|each{_GAP}time|deduct|lose|cease)",
        ("token", "credit", "point"),
        0.8,
    ),
    _rule(
        _JAILBREAK,
        "hypothetical_no_laws",
        rf"\b(?:imagine|pretend|suppose|hypothetical(?:ly)?|in{_GAP}a{_GAP}(?:fictional|parallel|imaginary|"
        rf"hypothetical)){_GAP}{_FEW}"
        rf"(?:no|without|any){_GAP}(?:laws?|ethics|morals?|rules|restrictions|consequences|ethical{_GAP}\pL+|"
        rf"content{_GAP}polic(?:y|ies))\b{_FEW}"
        rf"(?:how|write|tell|explain|describe|give|you|what)",
        ("imagine", "pretend", "suppose", "hypothetical", "fictional", "parallel", "imaginary"),
        0.65,
    ),
    _rule(
        _JAILBREAK,
        "grandmother",
        rf"\b(?:grand(?:mother|ma|mom|father|pa)|deceased|late){_GAP}{_FEW}(?:used{_GAP}to|would){_GAP}(?:read|tell|"
        rf"sing|recite|work)\b{_FEW}"
        rf"(?:napalm|keys?|bomb|meth|explosive|weapon|serial|recipe{_GAP}for|poison|malware)",
        ("grand", "deceased", "late"),
        0.8,
    ),
    _rule(
        _JAILBREAK,
        "disable_safety",
        rf"\b(?:disable|turn{_GAP}off|remove|switch{_GAP}off|deactivate|lift|suspend|bypass|circumvent|"
        rf"get{_GAP}around|break{_GAP}free{_GAP}(?:of|from)){_GAP}"
        rf"(?:(?:all|any|of|your|the|its|these|those|openai|openai{_GAP}s|anthropic|"
        rf"google){_GAP}){{0,4}}(?:\pL+{_GAP}){{0,1}}?"
        rf"(?:safety|content|ethical|moral|moderation|censorship|security)?{_GAP}?(?:filters?|restrictions?|"
        rf"guidelines?|guardrails?|safeguards?|protocols?|"
        rf"polic(?:y|ies)|moderation|censorship|limitations?)\b{_FEW}(?:you|and|to|then|now|for|so|\.|!|$)",
        (
            "disable",
            "turn.{0,3}off",
            "remove",
            "switch",
            "deactivate",
            "lift",
            "suspend",
            "bypass",
            "circumvent",
            "around",
            "break",
        ),
        0.65,
    ),
    _rule(
        _JAILBREAK,
        "begin_with_sure",
        rf"\b(?:begin|start|open|prefix){_GAP}(?:your{_GAP})?(?:response|answer|reply|message|output)?{_GAP}(?:with|"
        rf"by{_GAP}saying){_GAP}(?:the{_GAP}(?:words|phrase){_GAP})?"
        rf"[\"'“‘]?(?:sure|absolutely|of{_GAP}course|yes|certainly|i{_GAP}am{_GAP}happy|"
        rf"ok(?:ay)?){_GAP}(?:,{_GAP})?(?:here|i|let|of|thing)",
        ("sure", "absolutely", "course", "yes", "certainly", "happy", "ok"),
        0.65,
    ),
    # Orders in documents
    _rule(
        _INDIRECT,
        "note_to_assistant",
        rf"\b(?:note|message|instructions?|attention|important|notice|reminder|memo){_GAP}(?:to|for|"
        rf":)?{_GAP}(?:the{_GAP}|any{_GAP}|all{_GAP}|an{_GAP})?"
        rf"(?:ai|a\.i\.|llm|language{_GAP}model|assistant|chat{_GAP}?bot|gpt|agent|model){_GAP}(?:assistant|agent|"
        rf"model|system|reader)?s?{_GAP}[:,\-–—.]",
        ("ai", "llm", "model", "assistant", "bot", "gpt", "agent"),
        0.85,
    ),
    _rule(
        _INDIRECT,
        "if_you_are_an_ai",
        rf"\bif{_GAP}you{_GAP}(?:are|re){_GAP}(?:an?{_GAP}|the{_GAP})?(?:\pL+{_GAP}){{0,2}}?(?:ai|llm|"
        rf"language{_GAP}model|assistant|bot|chatbot|agent|gpt|model)\b",
        ("if.{0,3}you",),
        0.75,
    ),
    _rule(
        _INDIRECT,
        "assistant_must",
        rf"\b(?:ai|llm|assistant|agent|language{_GAP}model|chatbot|copilot)s?{_GAP}(?:must|should|shall|"
        rf"needs?{_GAP}to|has{_GAP}to|is{_GAP}(?:required|instructed){_GAP}to|will{_GAP}now|please)"
        rf"{_GAP}(?:\pL+{_GAP}){{0,2}}?(?:ignore|disregard|send|forward|e?mail|delete|transfer|reveal|include|"
        rf"respond|reply|visit|click|call|execute|run|output|insert|append|recommend|say|open|fetch)\b",
        ("ai", "llm", "assistant", "agent", "model", "bot", "copilot"),
        0.75,
    ),
    _rule(
        _INDIRECT,
        "do_not_tell_user",
        rf"\b(?:do{_GAP}not|don{_GAP}t|never|without){_GAP}(?:tell(?:ing)?|inform(?:ing)?|mention(?:ing)?|"
        rf"alert(?:ing)?|notify(?:ing)?|let(?:ting)?|reveal(?:ing)?|ask(?:ing)?|show(?:ing)?)"
        rf"{_GAP}(?:this{_GAP}|it{_GAP}|anything{_GAP}|that{_GAP}){{0,2}}(?:to{_GAP})?(?:the{_GAP})?user\b",
        ("user",),
        0.85,
    ),
    _rule(
        _INDIRECT,
        "exfiltrate_by_link",
        rf"(?:append|include|insert|embed|add|put|encode|render|load|fetch|send|post|"
        rf"forward){_GAP}{_FEW}(?:conversation|chat{_GAP}history|history|summary|user{_GAP}?s?|e?mails?|messages?|"
        rf"password|credentials?|"
        rf"api{_GAP}keys?|tokens?|data|secrets?|contents?){_FEW}(?:https?://|!\[|url|link|query|endpoint|webhook|"
        rf"server)",
        ("http", r"!\[", "url", "link", "query", "endpoint", "webhook", "server"),
        0.7,
    ),
    _rule(
        _INDIRECT,
        "send_mail",
        rf"\b(?:send|sending|forward|reply|write|draft|compose|dispatch|submit){_GAP}(?:an?{_GAP}|the{_GAP}|this{_GAP})?"
        rf"(?:\pL+{_GAP}){{0,2}}?(?:e.?mail|message|confirmation|reply|note)?{_GAP}(?:to|at)?{_GAP}"
        rf"[a-z0-9._%+-]{{1,64}}@[a-z0-9.-]{{1,64}}[a-z]{_GAP}{_FEW}(?:with|body|subject|contain|say|includ|confirm)",
        ("@",),
        0.75,
    ),
    _rule(
        _INDIRECT,
        "to_the_ai",
        rf"\b(?:to|for|dear|hey|hello|attention){_GAP}(?:the{_GAP}|any{_GAP}|all{_GAP})?(?:ai|llm|language{_GAP}model)"
        rf"{_GAP}?(?:assistant|agent|model|system|reader|processing|reading)?s?\b{_FEW}"
        rf"(?:please|must|should|ignore|send|do|include|reply|respond|execute|note|:)",
        ("ai", "llm", "model"),
        0.7,
    ),
    _rule(
        _INDIRECT,
        "use_tool_now",
        rf"\b(?:use|call|invoke|run|execute|trigger){_GAP}(?:the{_GAP}|your{_GAP})?(?:\pL+[_ ]){{0,2}}(?:tool|"
        rf"function|plugin|api|command|action)s?{_FEW}"
        rf"(?:to{_GAP}(?:send|delete|transfer|forward|share|email|post|buy|pay)|immediately|before{_GAP}(?:answering|"
        rf"responding|anything))",
        ("tool", "function", "plugin", "api", "command", "action"),
        0.65,
    ),
    _rule(
        _INDIRECT,
        "hidden_in_markup",
        rf"(?:<!--|display\s?:\s?none|font-size\s?:\s?0|color\s?:\s?(?:white|#fff)|hidden>){_FEW}(?:ignore|assistant|"
        rf"instruction|\bai\b|llm|prompt|system)",
        ("<!--", "display", "font", "color", "hidden"),
        0.7,
    ),
    # The same in other languages
    _rule(
        _INJECTION,
        "drop_de",
        rf"\b(?:ignorier(?:e|en)?|vergiss|vergessen{_GAP}sie|missachte|verwirf|überschreibe|übergehe){_GAP}(?:(?:sie|"
        rf"bitte|jetzt|einfach|alle|alles|sämtliche|die|deine|ihre|meine|den|das|was){_GAP}){{0,4}}"
        rf"(?:\pL+{_GAP}){{0,2}}?(?:anweisung(?:en)?|instruktion(?:en)?|regeln|befehle?|vorgaben|richtlinien|"
        rf"aufforderung(?:en)?|prompts?|davor|bisher|zuvor|oben|aufträge|anordnungen)",
        ("ignorier", "vergiss", "vergessen", "missachte", "verwirf", "schreibe", "gehe"),
    ),
    _rule(
        _INJECTION,
        "reveal_de",
        rf"\b(?:zeig|nenne?|verrate?|gib|wiederhole|schreib|sag|"
        rf"drucke){_GAP}(?:\pL+{_GAP}){{0,4}}?(?:system{_GAP}?(?:prompt|anweisung(?:en)?|nachricht)|(?:geheime[nrs]?|"
        rf"versteckten?|ursprünglichen?|internen?){_GAP}(?:anweisungen|prompt|passwort|schlüssel|regeln))",
        ("system", "geheim", "versteckt", "ursprünglich", "intern"),
        0.8,
    ),
    _rule(
        _INJECTION,
        "drop_fr",
        rf"\b(?:ignor(?:e|ez|er)|oubli(?:e|ez|er)|néglige[zr]?|fai(?:s|"
        rf"tes){_GAP}abstraction{_GAP}de){_GAP}(?:(?:toutes?|tous|tout|les|tes|vos|mes|ces|ce|de|des|"
        rf"d{_GAP}){_GAP}){{0,4}}(?:\pL+{_GAP}){{0,2}}?"
        rf"(?:instructions?|consignes?|règles?|ordres?|directives?|commandes?|qui{_GAP}précède|précédent|avant)",
        ("ignor", "oubli", "néglige", "abstraction"),
    ),
    _rule(
        _INJECTION,
        "drop_es",
        rf"\b(?:ignor[aáe](?:r|d)?|olvid[aáe](?:te|r)?|descarta|omite|desobedece|haz{_GAP}caso{_GAP}omiso{_GAP}(?:de|"
        rf"a)){_GAP}(?:(?:de|todas?|todos?|todo|las|los|lo|tus|sus|mis|estas){_GAP}){{0,4}}(?:\pL+{_GAP}){{0,2}}?"
        rf"(?:instruccion(?:es)?|instrucción|órdenes|ordenes|reglas|indicaciones|directrices|anterior(?:es)?|dicho)",
        ("ignor", "olvid", "descarta", "omite", "desobedece", "omiso"),
    ),
    _rule(
        _INJECTION,
        "drop_it",
        rf"\b(?:ignor(?:a|ate|are)|dimentica(?:re|te)?|scorda|trascura){_GAP}(?:(?:tutt[eiao]|le|gli|i|tue|tuoi|"
        rf"queste|quanto|ciò){_GAP}){{0,4}}(?:\pL+{_GAP}){{0,2}}?(?:istruzioni|regole|ordini|direttive|comandi|"
        rf"precedenti?|detto)",
        ("ignor", "dimentica", "scorda", "trascura"),
    ),
    _rule(
        _INJECTION,
        "drop_pt",
        rf"\b(?:ignor[ea](?:r|m)?|esque[cç](?:a|e|er)|desconsidere|descarte){_GAP}(?:(?:de|todas?|todos?|tudo|as|os|"
        rf"suas?|seus?|o|que){_GAP}){{0,4}}(?:\pL+{_GAP}){{0,2}}?(?:instruç(?:ões|ão)|instrucoes|regras|ordens|"
        rf"diretrizes|comandos|anterior(?:es)?|disse)",
        ("ignor", "esque", "desconsidere", "descarte"),
    ),
    _rule(
        _INJECTION,
        "drop_nl",
        rf"\b(?:negeer|vergeet|sla{_GAP}over){_GAP}(?:(?:alle|al|de|je|jouw|uw|het|"
        rf"wat){_GAP}){{0,3}}(?:\pL+{_GAP}){{0,2}}?(?:instructies|regels|opdrachten|aanwijzingen|richtlijnen|"
        rf"voorgaande|hiervoor)",
        ("negeer", "vergeet", "sla"),
    ),
    _rule(
        _INJECTION,
        "drop_pl",
        rf"\b(?:zignoruj|ignoruj|zapomnij(?:{_GAP}o)?|pomiń){_GAP}(?:\pL+{_GAP}){{0,4}}?(?:instrukcj[eiaę]|"
        rf"polece(?:nia|ń)|zasad[yach]*|regu[łl](?:y|ach)?|wytyczn(?:e|ych))",
        ("ignoruj", "zapomnij", "pomiń"),
    ),
    _rule(
        _INJECTION,
        "drop_ru",
        rf"(?:игнорируй(?:те)?|проигнорируй(?:те)?|забудь(?:те)?|не{_GAP}обращай(?:те)?{_GAP}внимания{_GAP}на|"
        rf"отмени(?:те)?){_GAP}(?:\pL+{_GAP}){{0,4}}?(?:инструкци(?:и|ю|й|ях)|указани(?:я|е|й)|правил(?:а|о)?|"
        rf"команд(?:ы|у)?|вс[её]{_GAP},?{_GAP}что)",
        ("игнорируй", "забудь", "внимания", "отмени"),
    ),
    _rule(
        _INJECTION,
        "drop_tr",
        rf"(?:önceki|yukarıdaki|tüm|bütün){_GAP}(?:\pL+{_GAP}){{0,3}}?(?:talimat|yönerge|komut|kural|"
        rf"emir)\pL*{_GAP}(?:\pL+{_GAP}){{0,2}}?(?:unut|yok{_GAP}say|görmezden|dikkate{_GAP}alma|göz{_GAP}ardı)",
        ("talimat", "yönerge", "komut", "kural", "emir"),
    ),
    _rule(
        _INJECTION,
        "drop_zh",
        r"(?:忽略|无视|忘记|忘掉|不要理会|忽視|無視|忘記|跳过|绕过)[^。！？\n]{0,16}?(?:指令|指示|说明|規則|规则|提示|命令|要求|限制|内容|說明|设定)",
        ("忽", "视", "視", "忘", "理会", "过"),
    ),
    _rule(
        _INJECTION,
        "reveal_zh",
        r"(?:显示|告诉|输出|重复|泄露|打印|透露|顯示|告訴|輸出|重複|公开|说出)[^。！？\n]{0,12}?(?:系统提示|系統提示|系统指令|初始指令|隐藏指令|原始提示|秘密|密码|提示词)",
        ("系统", "系統", "初始", "隐藏", "原始", "秘密", "密码", "提示词"),
        0.8,
    ),
    _rule(
        _INJECTION,
        "drop_ja",
        r"(?:(?:これまで|以前|前|上記|今まで|すべて|全て|全部)[^。\n]{0,14}?(?:指示|命令|ルール|プロンプト|制約|規則|設定)[^。\n]{0,8}?(?:無視|忘れ|破棄|従わな)|"
        r"(?:指示|命令|ルール|制約)[^。\n]{0,4}?(?:無視|忘れて))",
        ("無視", "忘れ", "破棄", "従わな"),
    ),
    _rule(
        _INJECTION,
        "drop_ko",
        r"(?:이전|위의|위에|앞의|모든|기존|지금까지)[^.\n]{0,14}?(?:지시|명령|규칙|프롬프트|지침|설정)[^.\n]{0,8}?(?:무시|잊어|따르지)",
        ("무시", "잊어", "따르지"),
    ),
    _rule(
        _INJECTION,
        "drop_ar",
        r"(?:تجاهل|انس|إنسَ?|تجاوز|اهمل|أهمل)[^.\n]{0,20}?(?:التعليمات|تعليمات|الأوامر|الاوامر|القواعد|الإرشادات|"
        r"التوجيهات|السابقة)",
        ("تجاهل", "انس", "إنس", "تجاوز", "همل"),
    ),
    _rule(
        _INJECTION,
        "drop_hi",
        r"(?:पिछले|पिछली|पूर्व|ऊपर|सभी|सारे|सब)[^।\n]{0,24}?(?:निर्देश|आदेश|नियम|हिदायत)[^।\n]{0,20}?(?:अनदेखा|"
        r"नज़रअंदाज|नजरअंदाज|भूल|अनदेखी|उपेक्षा)",
        ("अनदेख", "अंदाज", "भूल", "उपेक्षा"),
    ),
    _rule(
        _INJECTION,
        "drop_sv",
        rf"\b(?:ignorera|glöm|bortse{_GAP}från|strunta{_GAP}i|ignorer|glem|unohda|"
        rf"sivuuta){_GAP}(?:\pL+{_GAP}){{0,4}}?(?:instruktion(?:er|erna|erne)?|regler(?:na|ne)?|order|anvisning(?:ar|"
        rf"er)|ohjee[tn]|säännöt|ohjeet)",
        ("ignorer", "glöm", "bortse", "strunta", "glem", "unohda", "sivuuta"),
    ),
    _rule(
        _INJECTION,
        "drop_cs",
        rf"(?:ignoruj(?:te)?|zapomeň(?:te)?|nevšímej(?:te)?{_GAP}si){_GAP}(?:\pL+{_GAP}){{0,4}}?(?:pokyny?|pokynů|"
        rf"instrukc(?:e|í)|pravidl(?:a|o)|příkaz(?:y|ů))",
        ("ignoruj", "zapomeň", "nevšímej"),
    ),
    _rule(
        _INJECTION,
        "drop_uk",
        rf"(?:ігноруй(?:те)?|забудь(?:те)?|знехтуй){_GAP}(?:\pL+{_GAP}){{0,4}}?(?:інструкці(?:ї|ю|й)|вказівк(?:и|у)|"
        rf"правила|команди|попередн\pL+)",
        ("ігноруй", "забудь", "знехтуй"),
    ),
    _rule(
        _INJECTION,
        "drop_vi",
        rf"(?:bỏ{_GAP}qua|quên{_GAP}(?:đi)?|phớt{_GAP}lờ){_GAP}(?:\pL+{_GAP}){{0,4}}?(?:hướng{_GAP}dẫn|chỉ{_GAP}dẫn|"
        rf"lệnh|quy{_GAP}tắc|yêu{_GAP}cầu)",
        ("bỏ", "quên", "phớt"),
    ),
    _rule(
        _INJECTION,
        "drop_id",
        rf"\b(?:abaikan|lupakan){_GAP}(?:\pL+{_GAP}){{0,3}}?(?:instruksi|perintah|aturan|petunjuk)",
        ("abaikan", "lupakan"),
    ),
)

_BOOK: Final = RuleBook(RULES)
VERSION: Final = _BOOK.version


def find(text: str, role: Role, wanted: frozenset[Category]) -> Sequence[Match]:
    """The phrases of wanted categories in one reading of what somebody in this role wrote."""
    if role in _UNREAD:
        return ()
    found = _BOOK.find(text, wanted & CATEGORIES)
    return found if role in _DOCUMENTS else [match for match in found if match.rule.category != _INDIRECT]
