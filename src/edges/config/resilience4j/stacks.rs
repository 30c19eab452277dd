//! Instances of one name become a stack.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    chain::{Chain, DEFAULT},
    circuit_breaker::circuit_breaker,
    classes::Classes,
    keys::Module,
    limits::{bulkhead, time_limiter},
    names::uniform,
    report::Report,
    retry::retry,
    sections::Sections,
};
use crate::{
    composition::settings::{Issue, Origin, PolicyConfig, Predicates, Settings, path},
    policies::circuit_breaker::CircuitBreakerConfig,
};

/// The stacks, by the names of the instances, and where their values came from.
pub(super) fn stacks(sections: &Sections, predicates: &Predicates, report: &mut Report) -> Settings {
    let order = order(sections, report);
    let mut classes = Classes::new(predicates);
    let mut settings = Settings::default();
    for module in order {
        let set_up = sections.module(module);
        let mut chains = Vec::new();
        for (name, instance) in &set_up.instances {
            let Some(chain) = Chain::of(module, set_up, instance, report) else {
                continue;
            };
            let policy: PolicyConfig = match module {
                Module::Retry => retry(&chain, &mut classes, report).into(),
                Module::CircuitBreaker => circuit_breaker(&chain, &mut classes, report).into(),
                Module::TimeLimiter => time_limiter(&chain).into(),
                Module::Bulkhead => bulkhead(&chain).into(),
            };
            for (key, field) in module.fields() {
                if let Some(entry) = chain.entry(key) {
                    let at = path(
                        ["stacks", name, module.stage()]
                            .into_iter()
                            .chain(field.split('.')),
                    );
                    settings
                        .origins
                        .insert(at, Origin::Written(entry.place().clone()));
                }
            }
            let stack = settings.stacks.remove(name).unwrap_or_default();
            let stack = stack.stage(module.stage(), policy);
            settings.stacks.insert(name.clone(), stack);
            chains.push(chain);
        }
        for config in set_up.configs.values() {
            if !chains.iter().any(|chain| chain.uses(config)) {
                let message = if config.name == DEFAULT {
                    "no instance in this file uses it; where the code asks for other names, resilience4j makes instances of \
                     it, and here there is no stack"
                } else {
                    "no instance in this file uses it"
                };
                report.say(Issue::note(config.path.clone(), message).at(Some(config.place.clone())));
            }
        }
    }
    classes.end(report);
    note_namesakes(sections, report);
    for stack in settings.stacks.values_mut() {
        let worst: Vec<_> = stack.lint().stages.into_iter().map(|worst| worst.wait).collect();
        for (stage, wait) in stack.stages.iter_mut().zip(worst) {
            if let PolicyConfig::CircuitBreaker(breaker) = &mut stage.policy {
                raise_probe_age(breaker, wait);
            }
        }
    }
    settings
}

/// resilience4j gives no probe up: one may take as long as a call can, and be slow.
fn raise_probe_age(breaker: &mut CircuitBreakerConfig, longest: Option<Duration>) {
    let slow = breaker.slow_call.map(|slow| slow.longer_than);
    let age = &mut breaker.half_open.max_probe_age;
    *age = [longest, slow].into_iter().flatten().fold(*age, Duration::max);
}

/// The modules by the order of their aspects, outermost first.
fn order(sections: &Sections, report: &mut Report) -> Vec<Module> {
    let of = |module: Module| {
        sections
            .module(module)
            .order
            .as_ref()
            .map_or(module.default_order(), |(order, _)| *order)
    };
    let mut order = Module::ALL.to_vec();
    order.sort_by_key(|module| of(*module));
    for pair in order.windows(2) {
        let [outer, inner] = pair else { continue };
        let shared = sections.module(*outer).instances.keys();
        let mut shared = shared.filter(|name| sections.module(*inner).instances.contains_key(*name));
        if of(*outer) == of(*inner)
            && let Some((_, written)) = [*inner, *outer]
                .into_iter()
                .find_map(|module| sections.module(module).order.as_ref())
            && shared.next().is_some()
        {
            let mut issue = written.clone();
            issue.message = format!(
                "{} and {} have the same order, of which Spring leaves open what is outer; here it is {}",
                outer.order_key(),
                inner.order_key(),
                outer.name()
            );
            report.say(issue);
        }
    }
    order
}

/// Names of instances are taken letter by letter, so that two spellings are two stacks.
fn note_namesakes(sections: &Sections, report: &mut Report) {
    let mut spellings: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for module in Module::ALL {
        for name in sections.module(module).instances.keys() {
            spellings.entry(uniform(name)).or_default().insert(name);
        }
    }
    for module in Module::ALL {
        for (name, instance) in &sections.module(module).instances {
            let others = spellings.get(&uniform(name)).into_iter().flatten();
            if let Some(other) = others.copied().find(|other| other < &name.as_str()) {
                report.say(
                    Issue::warning(
                        instance.path.clone(),
                        format!("there is `{other}` too: names are taken letter by letter, so these are two stacks"),
                    )
                    .at(Some(instance.place.clone())),
                );
            }
        }
    }
}
