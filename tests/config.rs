//! Settings from files.
use buttress::{config::Source, *};
#[test]
fn smoke() {
    for f in std::env::var("F").unwrap().split(' ') {
    let s = Source::path(f).load(&Predicates::default());
    match s { Ok(s) => println!("{s:#?}"), Err(e) => println!("{e}") }
    }
}
