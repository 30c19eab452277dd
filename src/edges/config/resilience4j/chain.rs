//! What an instance is set up by: its own keys, and those of the configs below it.

use std::time::Duration;

use super::{
    keys::{Module, Setting},
    report::Report,
    sections::{Entry, ModuleSections, Section},
    values::Class,
};
use crate::{composition::settings::Issue, vocabulary::nearest::suggestion};

/// The sections that make an instance, from the deepest config to the instance itself: later ones win.
pub(super) struct Chain<'s>(Vec<&'s Section>);

/// The config that underlies what names no other.
pub(super) const DEFAULT: &str = "default";

impl<'s> Chain<'s> {
    /// The chain of an instance. `None` where it leads nowhere, or in a circle, which is reported.
    pub(super) fn of(
        module: Module,
        sections: &'s ModuleSections,
        instance: &'s Section,
        report: &mut Report,
    ) -> Option<Self> {
        let mut chain = vec![instance];
        let mut last = instance;
        loop {
            let next = match last.entry("baseConfig") {
                // A config that is there because of its name is taken without its own base.
                Some(base) if is_namesake(module, sections, instance, last) => {
                    report.say(base.warning(format!(
                        "resilience4j ignores it for the instance `{}`, which this config underlies because it has the same \
                         name; so does this",
                        instance.name
                    )));
                    None
                }
                Some(base) => {
                    let Setting::Name(name) = &base.setting else {
                        return None;
                    };
                    let Some(config) = sections.configs.get(name) else {
                        let known = sections.configs.keys().map(String::as_str);
                        let suggestion = suggestion(name, known);
                        report.say(base.error(format!(
                            "{suggestion}there is no such config in `resilience4j.{}.configs`",
                            module.name()
                        )));
                        return None;
                    };
                    Some((config, base))
                }
                None => None,
            };
            let (next, by) = match next {
                Some((config, base)) => (config, Some(base)),
                None => match implied(module, sections, &chain) {
                    Some(config) => (config, None),
                    None => break,
                },
            };
            if chain.iter().skip(1).any(|known| std::ptr::eq(*known, next)) {
                let names: Vec<&str> = chain
                    .iter()
                    .chain([&next])
                    .map(|section| section.name.as_str())
                    .collect();
                let message = format!("configs go in a circle: {}", names.join(" -> "));
                report.say(match by {
                    Some(base) => base.error(message),
                    None => Issue::error(last.path.clone(), message).at(Some(last.place.clone())),
                });
                return None;
            }
            if by.is_none() {
                note_implied(instance, last, next, report);
            }
            chain.push(next);
            last = next;
        }
        chain.reverse();
        Some(Self(chain))
    }

    /// From the deepest config to the instance.
    pub(super) fn sections(&self) -> impl DoubleEndedIterator<Item = &'s Section> + ExactSizeIterator {
        self.0.iter().copied()
    }

    /// The name of the instance.
    pub(super) fn instance(&self) -> &'s str {
        self.0.last().map_or("", |instance| &instance.name)
    }

    /// For messages about a section: for which instance they hold, where it is not the instance itself.
    pub(super) fn for_whom(&self, section: &Section) -> String {
        match self.0.last() {
            Some(instance) if !std::ptr::eq(*instance, section) => format!(" for `{}`", instance.name),
            _ => String::new(),
        }
    }

    /// Whether a config is part of it.
    pub(super) fn uses(&self, config: &Section) -> bool {
        self.0.iter().any(|section| std::ptr::eq(*section, config))
    }

    /// What counts of a key: the one that is nearest to the instance.
    pub(super) fn entry(&self, key: &str) -> Option<&'s Entry> {
        self.sections().rev().find_map(|section| section.entry(key))
    }

    pub(super) fn time(&self, key: &str) -> Option<Duration> {
        self.entry(key)?.time()
    }

    pub(super) fn count(&self, key: &str) -> Option<u32> {
        self.entry(key)?.count()
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.entry(key)?.number()
    }

    pub(super) fn is_true(&self, key: &str) -> bool {
        self.entry(key).is_some_and(Entry::is_true)
    }
}

impl Entry {
    pub(super) fn time(&self) -> Option<Duration> {
        match self.setting {
            Setting::Time(time) => Some(time),
            _ => None,
        }
    }

    pub(super) fn count(&self) -> Option<u32> {
        match self.setting {
            Setting::Count(count) => Some(count),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self.setting {
            Setting::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        self.setting == Setting::Truth(true)
    }

    /// The classes that it names.
    pub(super) fn classes(&self) -> &[Class] {
        match &self.setting {
            Setting::Classes(classes) => classes,
            _ => &[],
        }
    }
}

/// The config that underlies the last one though nobody names it.
///
/// `configs.default` underlies an instance without a `baseConfig`, and in all modules but the circuit breaker's also a
/// config without one. Under a circuit breaker's instance a config of the same name comes before `default`.
fn implied<'s>(module: Module, sections: &'s ModuleSections, chain: &[&'s Section]) -> Option<&'s Section> {
    let default = sections.configs.get(DEFAULT);
    let [instance] = chain else {
        let is_default = chain
            .last()
            .is_some_and(|last| default.is_some_and(|default| std::ptr::eq(*last, default)));
        return default.filter(|_| module != Module::CircuitBreaker && !is_default);
    };
    if module == Module::CircuitBreaker {
        sections.configs.get(&instance.name).or(default)
    } else {
        // Who is called so is taken for the config itself.
        default.filter(|_| instance.name != DEFAULT)
    }
}

/// Whether the config underlies a circuit breaker's instance because it has the same name.
fn is_namesake(module: Module, sections: &ModuleSections, instance: &Section, config: &Section) -> bool {
    module == Module::CircuitBreaker
        && instance.name != DEFAULT
        && instance.entry("baseConfig").is_none()
        && sections
            .configs
            .get(&instance.name)
            .is_some_and(|namesake| std::ptr::eq(namesake, config))
}

/// Says what nobody would expect.
fn note_implied(instance: &Section, last: &Section, config: &Section, report: &mut Report) {
    let message = if config.name != DEFAULT {
        "the config of the same name underlies it, and not `configs.default`: so resilience4j does for circuit breakers \
         without a `baseConfig`"
    } else if std::ptr::eq(instance, last) {
        return;
    } else {
        "`configs.default` underlies this config too: so resilience4j does in all modules but `circuitbreaker`"
    };
    report.say(Issue::note(last.path.clone(), message).at(Some(last.place.clone())));
}
