"""Random conversations for chat templates: roles, parts, tools, tool calls with and without ids, thoughts, odd values."""
import random

BLANKS = ["", " ", "\n", "\t ", "\u00a0", "\u3000", "\u2028", "\u200b", "\r\n", "\x1f", "\x85"]
WORDS = ["Hello", "naïve", "Größe", "日本", "😀", "<b>", "&", "it's", '"quoted"', "\\n", "{{ x }}", "<|turn>", "<turn|>", "İ", "ß",
         "ΣΑΣ", "A.B", "{}", "%s", "0", "-", "x_y", "<think>", "</think>", "<|channel>", "<channel|>", "\n\n", "e\u0301"]
NUMBERS = [0, 1, -1, 7, 2**31, -2**63, 2**63, 2**64 - 1, 1.0, -0.0, 1e-7, 1e16, 123456789012345.678, 1.5e300, 0.1]
NAMES = ["get_weather", "Zeta", "alpha", "b", "A", "x_1", "Größe", "items", "type", "description"]


def text(rng, words=6):
    return rng.choice(BLANKS) + " ".join(rng.choices(WORDS, k=rng.randrange(words))) + rng.choice(BLANKS)


def value(rng, depth=0):
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind in (1, 2):
        return rng.choice(NUMBERS)
    if kind in (3, 4):
        return text(rng, 3)
    if kind == 5:
        return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
    return {rng.choice(NAMES): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def schema(rng, depth=0):
    kind = rng.choice(["string", "integer", "number", "boolean"] + ["array", "object"] * (depth < 3))
    out = {"type": kind}
    if rng.random() < 0.7:
        out["description"] = text(rng, 4)
    if kind == "string" and rng.random() < 0.4:
        out["enum"] = [rng.choice(WORDS) for _ in range(rng.randrange(1, 4))]
    if rng.random() < 0.2:
        out["nullable"] = rng.choice([True, False])
    if kind == "array" and rng.random() < 0.9:
        out["items"] = schema(rng, depth + 1)
    if kind == "object":
        out.update(parameters(rng, depth + 1))
    return out


def parameters(rng, depth=0):
    names = rng.sample(NAMES, rng.randrange(4))
    out = {"type": "object", "properties": {name: schema(rng, depth) for name in names}}
    if names and rng.random() < 0.6:
        out["required"] = rng.sample(names, rng.randrange(1, len(names) + 1))
    return out


def tool(rng):
    function = {"name": rng.choice(NAMES), "description": text(rng), "parameters": parameters(rng)}
    if rng.random() < 0.2:
        function["response"] = {"type": "object", "description": text(rng)}
    return {"type": "function", "function": function}


def content(rng, media=()):
    if rng.random() < 0.75:
        return text(rng)
    parts = [{"type": "text", "text": text(rng)} for _ in range(rng.randrange(1, 3))]
    for kind in media:
        if rng.random() < 0.2:
            parts.insert(rng.randrange(len(parts) + 1), {"type": kind})
    return parts


def call(rng, number):
    arguments = {rng.choice(NAMES): value(rng) for _ in range(rng.randrange(4))}
    out = {"type": "function", "function": {"name": rng.choice(NAMES), "arguments": arguments}}
    if rng.random() < 0.7:
        out["id"] = f"call_{number}"
    return out


def model_turn(rng, tools):
    """An assistant message and the tool messages behind it."""
    message = {"role": "assistant"}
    if rng.random() < 0.3:
        message[rng.choice(["reasoning", "reasoning_content"])] = text(rng)
    if not tools or rng.random() < 0.5:
        return [{**message, "content": content(rng)}]
    calls = [call(rng, number) for number in range(rng.randrange(1, 3))]
    message["tool_calls"] = calls
    if rng.random() < 0.6:
        message["content"] = text(rng, 3)
    if rng.random() < 0.2:
        message["tool_responses"] = [{"name": c["function"]["name"], "response": value(rng)} for c in calls]
        return [message]
    answers = [{"role": "tool", "content": rng.choice([text(rng), content(rng)])} for _ in calls[:rng.randrange(3)]]
    for answer, of in zip(answers, calls):
        if "id" in of and rng.random() < 0.8:
            answer["tool_call_id"] = of["id"]
        elif rng.random() < 0.5:
            answer["name"] = of["function"]["name"]
    return [message, *answers]


def conversation(rng, with_tools=True, media=()):
    """Messages and tools, which may be None."""
    messages = []
    if rng.random() < 0.4:
        messages.append({"role": "system", "content": content(rng)})
    tools = [tool(rng) for _ in range(rng.randrange(1, 3))] if with_tools and rng.random() < 0.5 else None
    for _ in range(rng.randrange(1, 4)):
        messages.append({"role": "user", "content": content(rng, media)})
        for _ in range(1 + (rng.random() < 0.15)):
            messages += model_turn(rng, tools)
    if rng.random() < 0.2:
        messages.append({"role": "user", "content": content(rng, media)})
    return messages, tools


def plain_conversation(rng, with_tools=True):
    """A conversation whose texts hold none of the templates' marks."""
    words, blanks = WORDS[:], BLANKS[:]
    try:
        WORDS[:] = ["Hello", "naïve", "Größe", "日本", "😀", "1.5", "it's", "x_y", "one\n\ntwo", "{}"]
        BLANKS[:] = ["", " ", "\n"]
        return conversation(rng, with_tools)
    finally:
        WORDS[:], BLANKS[:] = words, blanks
