from selfee_cli.protocol.prompt import Exchange, render_prompt, split_prompt


def test_without_input() -> None:
    assert render_prompt("Hi?") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nHi?\n\n### Answer:\n"
    )


def test_with_input() -> None:
    prompt = render_prompt("Sum up.", input="Some text.")
    assert prompt.endswith("### Instruction:\nSum up.\n\n### Input:\nSome text.\n\n### Answer:\n")
    assert prompt.startswith("Below is an instruction that describes a task, paired with an input")


def test_history_holds_questions_and_final_answers() -> None:
    prompt = render_prompt("And now?", history=[Exchange(instruction="Hi?", answer="Hello.")])
    assert prompt.count("Below is") == 1
    assert prompt.endswith(
        "\n\n### Instruction:\nHi?\n\n### Answer:\nHello.\n\n"
        "### Instruction:\nAnd now?\n\n### Answer:\n"
    )


def test_split_is_the_inverse() -> None:
    for instruction, input in [("Hi?", None), ("Sum up.\n\n### Feedback 1:\n", "a\n\nb")]:
        whole = render_prompt(instruction, input=input) + "Raw\n\n### Answer:\nmore"
        assert split_prompt(whole) == (instruction, input, "Raw\n\n### Answer:\nmore")
    assert split_prompt("Something else") is None
