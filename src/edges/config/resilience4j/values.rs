//! What Spring makes of a value: durations, numbers, truth values, names of classes and states.

use std::time::Duration;

use super::names::{indexed, uniform};
use crate::{
    composition::settings::Place,
    edges::config::tree::{Node, Value},
    policies::circuit_breaker::StayEnd,
    vocabulary::state::State,
};

/// A name of a class, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) place: Place,
}

/// Why a value is not accepted: what would have been.
type Refused = String;

/// A duration as Spring Boot reads it: `10s`, `PT1M`, or a bare number of milliseconds.
pub(super) fn duration(node: &Node) -> Result<Duration, Refused> {
    let accepted = || {
        "accepted: a whole number with ns, us, ms, s, m, h or d behind it (`10s`), milliseconds without (`500`), or ISO 8601 \
         (`PT1M30S`)"
            .to_owned()
    };
    match &node.value {
        Value::Integer(milliseconds) => match u64::try_from(*milliseconds) {
            Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
            Err(_) => Err("accepted: no duration below zero".to_owned()),
        },
        Value::String(text) => {
            let text = text.trim();
            if text.starts_with('-') {
                return Err("accepted: no duration below zero".to_owned());
            }
            let unsigned = text.strip_prefix('+').unwrap_or(text);
            if unsigned.starts_with(['P', 'p']) {
                iso(unsigned).ok_or_else(accepted)
            } else {
                simple(unsigned).ok_or_else(|| match compound(unsigned) {
                    Some(iso) => format!("{}; for {unsigned} write `{iso}`", accepted()),
                    None => accepted(),
                })
            }
        }
        _ => Err(accepted()),
    }
}

/// A whole number and a unit.
fn simple(text: &str) -> Option<Duration> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    of_unit(number, &text[end..])
}

fn of_unit(number: u64, unit: &str) -> Option<Duration> {
    match unit.to_ascii_lowercase().as_str() {
        "ns" => Some(Duration::from_nanos(number)),
        "us" => Some(Duration::from_micros(number)),
        "" | "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

/// Days, hours, minutes and seconds, as `java.time.Duration` reads them: `P1DT2H3M4.5S`.
fn iso(text: &str) -> Option<Duration> {
    let text = text.get(1..)?.to_ascii_uppercase();
    let (days, time) = match text.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (text.as_str(), ""),
    };
    let mut whole = Duration::ZERO;
    let mut any = false;
    for (part, units) in [(days, "D"), (time, "HMS")] {
        let mut rest = part;
        let mut left = units;
        while !rest.is_empty() {
            let end = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
            let unit = rest.get(end..=end)?;
            let at = left.find(unit)?;
            left = left.get(at + 1..)?;
            let (number, fraction) = rest[..end].split_once('.').unwrap_or((&rest[..end], ""));
            if !fraction.is_empty() && unit != "S" || rest[..end].ends_with('.') {
                return None;
            }
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(number) || !digits(fraction) || fraction.len() > 9 {
                return None;
            }
            let mut nanoseconds = 0;
            if !fraction.is_empty() {
                nanoseconds = format!("{fraction:0<9}").parse().ok()?;
            }
            let of_unit = of_unit(number.parse().ok()?, unit)?;
            whole = whole
                .checked_add(of_unit)?
                .checked_add(Duration::from_nanos(nanoseconds))?;
            any = true;
            rest = rest.get(end + 1..)?;
        }
    }
    any.then_some(whole)
}

/// In ISO 8601 what was written as `1m30s`, which Spring does not take.
fn compound(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let iso_text = format!("PT{upper}");
    iso(&iso_text).map(|_| iso_text)
}

/// So many times a duration, to the microsecond; at most the longest there is.
pub(super) fn times(duration: Duration, factor: f64) -> Duration {
    let microseconds = (duration.as_secs_f64() * factor * 1e6).round();
    Duration::try_from_secs_f64(microseconds / 1e6).unwrap_or(Duration::MAX)
}

/// A whole number within that range.
pub(super) fn count(node: &Node, most: u32) -> Result<u32, Refused> {
    let number = match &node.value {
        Value::Integer(number) => Some(*number),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("accepted: a whole number from 1 to {most}"))
}

/// Any whole number, as orders of aspects are.
pub(super) fn order(node: &Node) -> Result<i32, Refused> {
    let number = match &node.value {
        Value::Integer(number) => Some(*number),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| "accepted: a whole number of 32 bits; lower is outer".to_owned())
}

#[allow(clippy::cast_precision_loss, reason = "nobody writes such large numbers")]
fn number(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// A share in percent, as resilience4j takes it: from 1 to 100.
pub(super) fn percent(node: &Node) -> Result<f64, Refused> {
    let accepted = "accepted: a number from 1 to 100, in percent";
    match number(node) {
        Some(percent) if (1.0..=100.0).contains(&percent) => Ok(percent),
        Some(share) if share > 0.0 && share < 1.0 => Err(format!(
            "{accepted}; for the share {share} write `{}`",
            (share * 1e6).round() / 1e4
        )),
        _ => match node.text().and_then(|text| text.trim().strip_suffix('%')) {
            Some(bare) => Err(format!("{accepted}; write `{}` without the sign", bare.trim())),
            None => Err(accepted.to_owned()),
        },
    }
}

/// A factor by which waits grow.
pub(super) fn multiplier(node: &Node) -> Result<f64, Refused> {
    match number(node) {
        Some(factor) if factor >= 1.0 => Ok(factor),
        Some(factor) if factor > 0.0 => {
            Err("accepted: 1 or more; waits that become shorter, as resilience4j has them below 1, have no counterpart".to_owned())
        }
        _ => Err("accepted: a number of 1 or more".to_owned()),
    }
}

/// The share of a wait that is random.
pub(super) fn share(node: &Node) -> Result<f64, Refused> {
    number(node)
        .filter(|share| (0.0..1.0).contains(share))
        .ok_or_else(|| "accepted: a number from 0 up to, and without, 1".to_owned())
}

/// A truth value in any of Spring's spellings.
pub(super) fn truth(node: &Node) -> Result<bool, Refused> {
    let truth = match &node.value {
        Value::Bool(truth) => Some(*truth),
        Value::Integer(1) => Some(true),
        Value::Integer(0) => Some(false),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Some(true),
            "false" | "off" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    truth.ok_or_else(|| "accepted: true or false".to_owned())
}

/// One of a few words, in any spelling.
fn one_of<T: Copy>(node: &Node, words: &[(&str, T)]) -> Result<T, Refused> {
    let word = node.text().map(|text| uniform(text.trim()));
    words
        .iter()
        .find(|(known, _)| word.as_deref() == Some(&uniform(known)))
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            format!("accepted: {}", words.join(", "))
        })
}

/// What a sliding window is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowType {
    Calls,
    Time,
}

pub(super) fn window_type(node: &Node) -> Result<WindowType, Refused> {
    one_of(
        node,
        &[
            ("COUNT_BASED", WindowType::Calls),
            ("TIME_BASED", WindowType::Time),
        ],
    )
}

pub(super) fn state(node: &Node) -> Result<State, Refused> {
    one_of(
        node,
        &[
            ("CLOSED", State::Closed),
            ("OPEN", State::Open),
            ("HALF_OPEN", State::HalfOpen),
            ("DISABLED", State::Disabled),
            ("METRICS_ONLY", State::MetricsOnly),
            ("FORCED_OPEN", State::ForcedOpen),
        ],
    )
}

pub(super) fn stay_end(node: &Node) -> Result<StayEnd, Refused> {
    one_of(node, &[("OPEN", StayEnd::Open), ("CLOSED", StayEnd::Close)])
}

/// A name: of a config, or of a class.
pub(super) fn name(node: &Node) -> Result<String, Refused> {
    match &node.value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        // It looks like a number, and is a name nevertheless.
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => Ok(node.value.to_string()),
        _ => Err("accepted: a name".to_owned()),
    }
}

/// Names of classes: a list, or text with commas.
pub(super) fn classes(node: &Node) -> Result<Vec<Class>, Refused> {
    let accepted = || "accepted: names of classes, as a list or with commas between them".to_owned();
    let nodes: Vec<&Node> = match &node.value {
        Value::Null => Vec::new(),
        Value::List(list) => list.iter().collect(),
        Value::Table(table) => indexed(table).ok_or_else(accepted)?,
        _ => vec![node],
    };
    let mut classes = Vec::new();
    for node in nodes {
        let text = node.text().ok_or_else(accepted)?;
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        classes.extend(names.map(|name| Class {
            name: name.to_owned(),
            place: node.place.clone(),
        }));
    }
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: Value) -> Node {
        let place = Place {
            source: "a.yml".into(),
            line_column: Some((1, 1)),
        };
        Node::new(value, place)
    }

    fn text(text: &str) -> Node {
        node(Value::String(text.to_owned()))
    }

    #[test]
    fn durations_are_read_as_spring_reads_them() {
        let ms = Duration::from_millis;
        for (written, read) in [
            ("10s", ms(10_000)),
            ("500", ms(500)),
            ("500ms", ms(500)),
            ("+5S", ms(5_000)),
            ("2m", ms(120_000)),
            ("1h", ms(3_600_000)),
            ("1d", ms(86_400_000)),
            ("7us", Duration::from_micros(7)),
            ("7ns", Duration::from_nanos(7)),
            ("0", ms(0)),
            (" 10s ", ms(10_000)),
            ("PT1M", ms(60_000)),
            ("pt1m30s", ms(90_000)),
            ("PT0.5S", ms(500)),
            ("P1DT2H3M4.005S", ms(((26 * 60 + 3) * 60 + 4) * 1000 + 5)),
            ("P2D", ms(172_800_000)),
            ("PT90M", ms(5_400_000)),
        ] {
            assert_eq!(duration(&text(written)), Ok(read), "{written}");
        }
        assert_eq!(duration(&node(Value::Integer(500))), Ok(ms(500)));
        for bad in [
            "",
            "s",
            "1.5s",
            "1m30s",
            "10 s",
            "10w",
            "-1s",
            "P",
            "PT",
            "P1DT",
            "PT1S1M",
            "PT1",
            "PTS",
            "P1H",
            "PT1.5M",
            "PT.S",
            "PT1.S",
            "PT٣S",
            "99999999999999999999s",
            "18446744073709551615d",
            "PT18446744073709551615H",
            "-PT1S",
            "Pé",
            "PTé",
        ] {
            assert!(duration(&text(bad)).is_err(), "{bad}");
        }
        for bad in [
            Value::Float(1.5),
            Value::Bool(true),
            Value::Null,
            Value::Integer(-1),
            Value::List(vec![]),
        ] {
            assert!(duration(&node(bad)).is_err());
        }
        assert!(
            duration(&text("1m30s"))
                .unwrap_err()
                .ends_with("for 1m30s write `PT1M30S`")
        );
    }

    #[test]
    fn shares_are_in_percent_and_fractions_are_told_what_they_would_be() {
        assert_eq!(percent(&node(Value::Integer(50))), Ok(50.0));
        assert_eq!(percent(&node(Value::Float(33.5))), Ok(33.5));
        assert_eq!(percent(&text("100")), Ok(100.0));
        assert_eq!(
            percent(&node(Value::Float(0.5))).unwrap_err(),
            "accepted: a number from 1 to 100, in percent; for the share 0.5 write `50`"
        );
        assert_eq!(
            percent(&text("50 %")).unwrap_err(),
            "accepted: a number from 1 to 100, in percent; write `50` without the sign"
        );
        for bad in [
            Value::Integer(0),
            Value::Integer(101),
            Value::Float(f64::NAN),
            Value::Null,
        ] {
            assert_eq!(
                percent(&node(bad)).unwrap_err(),
                "accepted: a number from 1 to 100, in percent"
            );
        }
    }

    #[test]
    fn truth_has_many_spellings() {
        for yes in ["true", "TRUE", "on", "yes", "1"] {
            assert_eq!(truth(&text(yes)), Ok(true));
        }
        for no in ["false", "off", "No", "0"] {
            assert_eq!(truth(&text(no)), Ok(false));
        }
        assert!(truth(&text("maybe")).is_err() && truth(&node(Value::Null)).is_err());
    }

    #[test]
    fn words_have_any_spelling() {
        for time in ["TIME_BASED", "time-based", "timeBased", "Time_Based"] {
            assert_eq!(window_type(&text(time)), Ok(WindowType::Time));
        }
        assert_eq!(
            window_type(&text("time")).unwrap_err(),
            "accepted: COUNT_BASED, TIME_BASED"
        );
        assert_eq!(state(&text("forced_open")), Ok(State::ForcedOpen));
        assert_eq!(stay_end(&text("closed")), Ok(StayEnd::Close));
    }

    #[test]
    fn classes_are_listed_or_have_commas_between_them() {
        let names = |node: &Node| {
            let classes = classes(node).unwrap();
            classes.into_iter().map(|class| class.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&text("a.B, c.D ,")), ["a.B", "c.D"]);
        assert_eq!(
            names(&node(Value::List(vec![text("a.B"), text("c.D")]))),
            ["a.B", "c.D"]
        );
        assert!(names(&node(Value::Null)).is_empty());
        assert!(classes(&node(Value::List(vec![node(Value::Integer(1))]))).is_err());
    }
}
