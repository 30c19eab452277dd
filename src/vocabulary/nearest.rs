//! What somebody may have meant who wrote an unknown word.

/// Longer words are compared with nothing: nobody meant a known one by them, and comparing takes time.
const LONGEST: usize = 64;

/// How many are suggested.
const MOST: usize = 3;

/// The known words that come near to `word`, the nearest first, three at most. Case, `-` and `_` make no difference.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
    if word.len() > LONGEST {
        return Vec::new();
    }
    let word = folded(word);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| distance(&word, &folded(name)).map(|distance| (distance, name)))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(MOST);
    near.into_iter().map(|(_, name)| name).collect()
}

/// `did you mean X?` or the like; empty where nothing is near.
pub(crate) fn suggestion<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let near: Vec<String> = nearest(word, known)
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect();
    match near.as_slice() {
        [] => String::new(),
        [one] => format!("did you mean {one}? "),
        [first @ .., last] => format!("did you mean {} or {last}? ", first.join(", ")),
    }
}

fn folded(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// How far they are apart, `None` where too far. A word within the other one is nearly it.
fn distance(word: &str, name: &str) -> Option<usize> {
    let (shorter, longer) = if word.len() < name.len() {
        (word, name)
    } else {
        (name, word)
    };
    let edits = strsim::osa_distance(word, name);
    let within = shorter.len() >= 3 && longer.contains(shorter);
    // One letter in three may be wrong.
    if edits <= longer.chars().count().div_ceil(3) {
        Some(edits)
    } else {
        within.then_some(edits.max(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearest_comes_first_and_what_is_far_not_at_all() {
        let known = [
            "timeout",
            "retry",
            "circuit_breaker",
            "bulkhead",
            "max_attempts",
            "max_wait",
        ];
        let near = |word| nearest(word, known);
        assert_eq!(near("timout"), ["timeout"]);
        assert_eq!(near("Circuit-Breaker"), ["circuit_breaker"]);
        assert_eq!(near("breaker"), ["circuit_breaker"]);
        assert_eq!(near("attempts"), ["max_attempts"]);
        assert_eq!(near("reryt"), ["retry"]);
        assert!(near("colour").is_empty());
        assert!(near("").is_empty());
        assert!(near(&"timeout".repeat(20)).is_empty());
        assert_eq!(nearest("ab", ["aa", "ac", "ad", "ae"]), ["aa", "ac", "ad"]);
    }

    #[test]
    fn a_suggestion_is_a_question() {
        assert_eq!(suggestion("timout", ["timeout"]), "did you mean `timeout`? ");
        assert_eq!(
            suggestion("ab", ["aa", "ac", "ad"]),
            "did you mean `aa`, `ac` or `ad`? "
        );
        assert_eq!(suggestion("x", ["timeout"]), "");
    }
}
