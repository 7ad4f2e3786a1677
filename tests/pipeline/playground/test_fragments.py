from multispace.pipeline.playground.fragments import answer


def test_captions_are_escaped_and_an_empty_one_is_said_to_be_so():
    html = answer(["", "a <b> dog"], "", "mode", "none")
    assert html.count("(no words)") == 2
    assert "a &lt;b&gt; dog" in html
