//! What the formats make of texts.

use super::*;

type Read = fn(&Arc<str>, &str) -> Result<Node, Vec<Issue>>;

fn read(read: Read, text: &str) -> Node {
    read(&"f".into(), text).unwrap_or_else(|issues| panic!("{text}: {issues:?}"))
}

fn told(read: Read, text: &str) -> Vec<String> {
    match read(&"f".into(), text) {
        Ok(node) => panic!("accepted {}", node.shown()),
        Err(issues) => issues.iter().map(ToString::to_string).collect(),
    }
}

fn place(node: &Node) -> String {
    node.place.to_string()
}

const TOML: &str = "[a]\r\nx = 1\r\n\"é\" = [ 'ü', 2.5 ]\r\n\r\n[b.c]\r\n\td.e = { f = true }\r\n";
const JSON: &str =
    "{\n\"a\": {\"x\": 1,\r\n \"é\": [\"ü\", 2.5]}, \"b\":\n\t{\"c\": {\"d\": {\"e\": {\"f\": true}}}}}";
#[cfg(feature = "yaml")]
const YAML: &str = "# c\na:\r\n  x: 1\r\n  \"é\": [ü, 2.5]\nb:\n  c: {d: {e: {f: true}}}\n";

#[test]
fn the_formats_say_the_same() {
    let shown = "{ a = { x = 1, \"é\" = [\"ü\", 2.5] }, b = { c = { d = { e = { f = true } } } } }";
    assert_eq!(read(toml, TOML).shown(), shown);
    assert_eq!(read(toml, &format!("\u{feff}{TOML}")).shown(), shown);
    assert_eq!(read(json, JSON).shown(), shown);
    assert_eq!(read(json, &format!("\u{feff}{JSON}")).shown(), shown);
    #[cfg(feature = "yaml")]
    assert_eq!(read(yaml, YAML).shown(), shown);
    #[cfg(feature = "yaml")]
    assert_eq!(read(yaml, &format!("\u{feff}{YAML}")).shown(), shown);
    // All JSON is YAML.
    #[cfg(feature = "yaml")]
    assert_eq!(read(yaml, &JSON.replace('\t', " ")).shown(), shown);
}

#[test]
fn values_and_keys_know_their_places() {
    let cases: [(Read, &str, [&str; 4]); 2] = [
        (toml, TOML, ["f:2:5", "f:3:14", "f:6:14", "f:6:2"]),
        (json, JSON, ["f:2:12", "f:3:13", "f:4:26", "f:4:9"]),
    ];
    #[cfg(feature = "yaml")]
    let cases = cases
        .into_iter()
        .chain([(yaml as Read, YAML, ["f:3:6", "f:4:12", "f:6:18", "f:6:7"])]);
    for (format, text, [x, second, deep, key]) in cases {
        let root = read(format, text);
        assert_eq!(place(root.at(["a", "x"]).unwrap()), x, "{text}");
        assert_eq!(place(root.at(["a", "é", "1"]).unwrap()), second, "{text}");
        assert_eq!(place(root.at(["b", "c", "d", "e", "f"]).unwrap()), deep, "{text}");
        let c = root.at(["b", "c"]).unwrap().table().unwrap();
        assert_eq!(c.key_place("d").unwrap().to_string(), key, "{text}");
    }
}

#[test]
fn what_is_no_text_of_its_format_is_told_with_its_place() {
    assert_eq!(
        told(toml, "a = 1\nb =\n[c\n"),
        [
            "f:2:4: this is not TOML: string values must be quoted, expected literal string",
            "f:3:3: this is not TOML: unclosed table, expected `]`",
        ]
    );
    assert_eq!(
        told(json, "{\n \"a\": }"),
        ["f:2:7: this is not JSON: unexpected close brace"]
    );
    assert_eq!(told(json, "[]"), ["f:1:1: accepted: an object, { … }"]);
    assert_eq!(
        told(json, " "),
        ["f:1:1: this is not JSON: it is empty; for no stacks write {}"]
    );
    for loose in [
        "{a: 1}",
        "{\"a\": 1,}",
        "{} // x",
        "{'a': 1}",
        "{\"a\": 0x1}",
        "{\"a\": +1}",
        "{\"a\": .5}",
        "{} {}",
    ] {
        assert_eq!(told(json, loose).len(), 1, "{loose}");
    }
    #[cfg(feature = "yaml")]
    {
        assert_eq!(
            told(yaml, "a: [1"),
            ["f:2:1: this is not YAML: while parsing a flow sequence, expected ',' or ']'"]
        );
        assert_eq!(told(yaml, "- 1"), ["f:1:1: accepted: a mapping, `key: value`"]);
        assert_eq!(
            told(yaml, "a: 1\n---\nb: 2"),
            ["f:2:1: this is a second document; accepted: one"]
        );
        assert_eq!(told(yaml, "? [a]\n: 1"), ["f:1:3: accepted as a key: text"]);
        assert_eq!(
            told(yaml, "a: !secret b"),
            ["f:1:4: the tag `!secret` means nothing here"]
        );
    }
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    assert_eq!(
        told(toml, "a = 1\na = 2"),
        ["f:2:1: this is not TOML: duplicate key"]
    );
    assert_eq!(
        told(json, "{\"a\": 1,\n\"a\": 2, \"b\": {\"c\": 1, \"c\": 1}}"),
        [
            "f:2:1: the key \"a\" stands here for the second time",
            "f:2:23: the key \"c\" stands here for the second time"
        ]
    );
    #[cfg(feature = "yaml")]
    assert_eq!(
        told(yaml, "a: 1\n'a': 2"),
        ["f:2:1: the key \"a\" stands here for the second time"]
    );
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = |times: usize| format!("{}{}", "[".repeat(times), "]".repeat(times));
    assert!(told(toml, &format!("a = {}", deep(100_000)))[0].contains("recurs"));
    assert!(told(toml, &vec!["a"; 100_000].join("."))[0].contains("this is not TOML"));
    assert!(told(toml, &format!("{} = 1", ["a"; 70].join(".")))[0].contains("nested too deep"));
    for times in [65, 400, 600, 100_000] {
        let said = told(json, &format!("{{\"a\": {}}}", deep(times)));
        assert!(said[0].contains("nest"), "{said:?}");
    }
    assert_eq!(read(json, &format!("{{\"a\": {}}}", deep(64))).size(), 65);
    let long = "#".repeat(MAX_TEXT + 1);
    assert_eq!(
        told(toml, &long),
        ["f: the text has 4194305 bytes; accepted: at most 4194304"]
    );
    #[cfg(feature = "yaml")]
    for times in [65, 100_000] {
        let said = told(yaml, &format!("a: {}", deep(times)));
        assert!(
            said[0].contains("nested too deep") || said[0].contains("recursion limit"),
            "{said:?}"
        );
        let said = told(yaml, &format!("{}x", "- ".repeat(times)));
        assert!(said[0].contains("nested too deep"), "{said:?}");
    }
}

#[cfg(feature = "yaml")]
#[test]
fn aliases_stand_for_what_they_mean_and_cannot_blow_up() {
    let root = read(yaml, "a: &x {b: [1, 2]}\nc: *x");
    assert_eq!(root.shown(), "{ a = { b = [1, 2] }, c = { b = [1, 2] } }");
    assert_eq!(place(root.at(["c"]).unwrap()), "f:2:4");
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for at in 1..12 {
        let aliases = vec![format!("*a{}", at - 1); 9].join(", ");
        bomb = format!("{bomb}a{at}: &a{at} [{aliases}]\n");
    }
    let said = told(yaml, &bomb);
    assert!(said[0].ends_with("too many values; accepted: at most 500000, repeated ones counted each time"));
    assert_eq!(
        told(yaml, "a: &a [*a]"),
        ["f:1:8: this alias stands within what it means"]
    );
    assert!(told(yaml, "a: *b")[0].contains("unknown anchor"));
    let nested: String = (0..60).fold(String::new(), |text, at| format!("{text}&n{at} ["));
    let wide = format!("a: {nested}{}{}", "x, ".repeat(200_000), "]".repeat(60));
    assert!(told(yaml, &wide)[0].contains("too many values"));
}

#[cfg(feature = "yaml")]
#[test]
fn plain_scalars_of_yaml_are_those_of_its_core_schema() {
    let cases = [
        ("12", "12"),
        ("-12", "-12"),
        ("+12", "12"),
        ("007", "7"),
        ("0o17", "15"),
        ("0x1F", "31"),
        ("1.5", "1.5"),
        ("1.", "1.0"),
        (".5", "0.5"),
        ("1e3", "1000.0"),
        ("-1E-3", "-0.001"),
        ("99999999999999999999", "1e20"),
        (".inf", "inf"),
        ("-.Inf", "-inf"),
        (".nan", "nan"),
        ("true", "true"),
        ("False", "false"),
        ("~", "null"),
        ("Null", "null"),
        ("", "null"),
        ("no", "\"no\""),
        ("off", "\"off\""),
        ("inf", "\"inf\""),
        ("nan", "\"nan\""),
        ("1_000", "\"1_000\""),
        (".", "\".\""),
        ("-", "[null]"),
        ("5s", "\"5s\""),
        ("1e", "\"1e\""),
        ("0x", "\"0x\""),
        ("+.", "\"+.\""),
        ("'12'", "\"12\""),
        ("!!str 12", "\"12\""),
        ("! 12", "\"12\""),
        ("!!float 1", "1"),
        ("502..504", "\"502..504\""),
    ];
    for (text, shown) in cases {
        assert_eq!(
            read(yaml, &format!("a:\n {text}\n")).at(["a"]).unwrap().shown(),
            shown,
            "{text}"
        );
    }
    let root = read(yaml, "404: x\non: y\nnull: z\n");
    assert_eq!(root.shown(), "{ 404 = \"x\", on = \"y\", null = \"z\" }");
    assert_eq!(read(yaml, "").shown(), "{}");
}

#[test]
fn numbers_of_toml_and_json_are_read() {
    let root = read(
        toml,
        "a = 0x10\nb = 1_000\nc = 1e3\nd = -inf\ne = 99999999999999999999\nf = 1979-05-27\ng = 0b11",
    );
    assert_eq!(
        root.shown(),
        "{ a = 16, b = 1000, c = 1000.0, d = -inf, e = 1e20, f = \"1979-05-27\", g = 3 }"
    );
    let root = read(
        json,
        "{\"a\": -0, \"b\": 1E3, \"c\": 99999999999999999999, \"d\": null}",
    );
    assert_eq!(root.shown(), "{ a = 0, b = 1000.0, c = 1e20, d = null }");
}

#[test]
fn a_value_alone_is_read_as_behind_an_equals_sign() {
    let place = Place {
        source: "X".into(),
        line_column: None,
    };
    let value = |text: &str| toml_value(text, &place).map(|node| node.shown());
    assert_eq!(value(" 5 ").as_deref(), Some("5"));
    assert_eq!(value("[\"a\", { b = 1 }]").as_deref(), Some("[\"a\", { b = 1 }]"));
    for text in ["1s", "", "10:30", "[1979-05-27]", "a = 1", "5 # x\ny", "\"a"] {
        assert_eq!(value(text), None, "{text}");
    }
    let list = toml_value("[1]", &place).unwrap();
    assert_eq!(list.at(["0"]).unwrap().place.to_string(), "X");
}

#[test]
fn long_values_are_cut_where_they_are_shown() {
    let root = read(toml, &format!("a = \"{}\"", "é".repeat(200)));
    assert_eq!(root.at(["a"]).unwrap().shown(), format!("\"{}…", "é".repeat(99)));
}
