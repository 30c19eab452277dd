//! How values stand in files: durations as `1m30s`, rates as `50%`, names of predicates as text.
//!
//! What is absent where something could be (`Option`) is left to the format: a file of settings says `off`.

use std::{fmt, fmt::Write as _, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::Visitor};

use crate::vocabulary::rate::Rate;

/// A duration as files write it, such as `1m30s`; zero is `0s`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1000 % 1000), "us"),
        (u64::from(nanos % 1000), "ns"),
    ];
    let mut text = String::new();
    for (count, unit) in parts {
        if count > 0 {
            // A string takes everything.
            let _ = write!(text, "{count}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

const DURATIONS: &str = "a duration with its unit, such as \"5s\", \"250ms\" or \"1m30s\"";

/// A duration that is read and written as text.
#[derive(Clone, Copy)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transparent))]
pub(crate) struct Text(#[cfg_attr(feature = "schema", schemars(with = "super::schema::Duration"))] Duration);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration_text(self.0))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(DURATIONS)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                if let Ok(number) = text.trim().parse::<u64>() {
                    return self.visit_u64(number);
                }
                humantime::parse_duration(text)
                    .map(Text)
                    .map_err(|_| E::custom(format_args!("accepted: {DURATIONS}")))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text, E> {
                Err(E::custom(format_args!(
                    "a bare number is no duration; for seconds write \"{number}s\", for milliseconds \"{number}ms\""
                )))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::custom(format_args!("accepted: {DURATIONS}"))),
                }
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
                // What a bare number may have meant, where that is a duration.
                match Duration::try_from_secs_f64(number) {
                    Ok(seconds) => Err(E::custom(format_args!(
                        "a bare number is no duration; for seconds write {:?}",
                        duration_text(seconds)
                    ))),
                    Err(_) => Err(E::custom(format_args!("accepted: {DURATIONS}"))),
                }
            }
        }

        deserializer.deserialize_str(Read)
    }
}

/// `serde(with)` for durations.
pub(crate) mod duration {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, Text};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        Text(*duration).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Text::deserialize(deserializer).map(|text| text.0)
    }
}

/// `serde(with)` for durations that may be off.
pub(crate) mod optional_duration {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, Text};

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(Text).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
    }
}

/// In percent where that reads back as the same rate, else as a fraction.
impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let percent = self.as_percent();
        if Self::percent(percent) == *self {
            serializer.collect_str(&format_args!("{percent}%"))
        } else {
            serializer.serialize_f64(self.as_fraction())
        }
    }
}

const RATES: &str = "a percentage such as \"50%\", or a fraction from 0 to 1 such as 0.5";

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(RATES)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                let percent = text
                    .trim()
                    .strip_suffix('%')
                    .and_then(|number| number.trim_end().parse::<f64>().ok())
                    .filter(|percent| (0.0..=100.0).contains(percent));
                percent
                    .map(Rate::percent)
                    .ok_or_else(|| E::custom(format_args!("accepted: {RATES}")))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Rate, E> {
                if (0.0..=1.0).contains(&number) {
                    Ok(Rate::fraction(number))
                } else if number > 1.0 && number <= 100.0 {
                    let message = format_args!("accepted: {RATES}; for {number} percent write \"{number}%\"");
                    Err(E::custom(message))
                } else {
                    Err(E::custom(format_args!("accepted: {RATES}")))
                }
            }

            #[allow(clippy::cast_precision_loss, reason = "what is accepted is exact")]
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Rate, E> {
                self.visit_f64(number as f64)
            }

            #[allow(clippy::cast_precision_loss, reason = "what is accepted is exact")]
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Rate, E> {
                self.visit_f64(number as f64)
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// `serde(with)` for lists of names of predicates. A status may stand there as a number.
pub(crate) mod names {
    use super::{Deserialize, Deserializer, Name, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(names: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        names.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        let names = Vec::<Name>::deserialize(deserializer)?;
        Ok(names.into_iter().map(|name| name.0).collect())
    }
}

/// The name of a predicate.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transparent))]
pub(crate) struct Name(#[cfg_attr(feature = "schema", schemars(with = "super::schema::Name"))] String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a predicate, or statuses such as \"5xx\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Name, E> {
                Ok(Name(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Name, E> {
                Ok(Name(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Name, E> {
                Ok(Name(number.to_string()))
            }
        }

        deserializer.deserialize_str(Read)
    }
}

/// A value that was given: unlike an `Option` it cannot be said to be off.
#[derive(Clone, Copy)]
pub(crate) struct Given<T>(pub(crate) Option<T>);

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Given<T> {
    pub(crate) const fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl<T: Serialize> Serialize for Given<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

/// A duration that was given.
pub(crate) type GivenDuration = Given<Text>;

impl From<Duration> for GivenDuration {
    fn from(duration: Duration) -> Self {
        Self(Some(Text(duration)))
    }
}

impl GivenDuration {
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.0.map(|text| text.0)
    }
}
