//! `Retry-After` (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use ::http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};

use crate::vocabulary::clock::time_of_day;

/// How long a response asks to wait before the next request: `Retry-After` in seconds or as a date.
///
/// A date counts from the response's own `Date`, so that the two clocks need not agree, or from now where there is
/// none. A date that is over is zero. What is neither form (`-1`, `1.5`, `soon`) is `None`; more seconds than can be
/// counted are the most that can.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let sent = || httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok();
    let from: SystemTime = sent().unwrap_or_else(time_of_day);
    Some(until.duration_since(from).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn seconds_are_read() {
        assert_eq!(of(&[("retry-after", "1")]), Some(Duration::from_secs(1)));
        assert_eq!(of(&[("retry-after", " 120 ")]), Some(Duration::from_secs(120)));
        assert_eq!(of(&[("retry-after", "0")]), Some(Duration::ZERO));
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_response() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for until in [
            "Sun, 06 Nov 1994 08:49:40 GMT",
            "Sunday, 06-Nov-94 08:49:40 GMT",
            "Sun Nov  6 08:49:40 1994",
        ] {
            assert_eq!(of(&[date, ("retry-after", until)]), Some(Duration::from_secs(3)));
        }
        assert_eq!(
            of(&[date, ("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT")]),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn a_date_counts_from_now_where_the_response_has_none() {
        let past = of(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(past, Some(Duration::ZERO));
        let later = of(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")]).unwrap();
        assert!(later > Duration::from_secs(86_400 * 365 * 1000));
        let garbled = of(&[
            ("date", "yesterday"),
            ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ]);
        assert_eq!(garbled, Some(Duration::ZERO));
    }

    #[test]
    fn what_is_no_wait_is_none_and_nothing_panics() {
        for bad in [
            "-1",
            "+1",
            "1.5",
            "NaN",
            "inf",
            "soon",
            "",
            "1 s",
            "0x10",
            "1e3",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(of(&[("retry-after", bad)]), None, "{bad}");
        }
        assert_eq!(of(&[]), None);
        let century = of(&[("retry-after", "3153600000")]);
        assert_eq!(century, Some(Duration::from_secs(3_153_600_000)));
        let endless = of(&[("retry-after", "99999999999999999999999")]);
        assert_eq!(endless, Some(Duration::MAX));
    }
}
