//! gRPC's status codes and its pushback.

use std::{fmt, time::Duration};

use ::http::HeaderMap;

use crate::vocabulary::outcome::Verdict;

/// A gRPC status code, by the numbers of
/// [the specification](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md). A number beyond 16 is
/// [`Unknown`](GrpcCode::Unknown), as the specification wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum GrpcCode {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl GrpcCode {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];
}

/// Which gRPC codes are failures, and which are retried.
///
/// | | default | source |
/// |---|---|---|
/// | failures | `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS` | [google/rpc/code.proto](https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto) maps each code to an HTTP status; these are what is a failure there: 5xx but 501, and 429 |
/// | retried | `UNAVAILABLE`, `RESOURCE_EXHAUSTED` | the counterparts of 503 and 429. [The status codes' document](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md) wants `UNAVAILABLE` retried; `ABORTED` is to be retried "at a higher level", and `DEADLINE_EXCEEDED` has no time left |
///
/// A retry happens where the server answered with the status alone ("Trailers-Only"). Once there are headers the call is
/// committed, as in [gRPC's own retries](https://github.com/grpc/proposal/blob/master/A6-client-retries.md). From
/// there comes `grpc-retry-pushback-ms` too: the wait before the retry, or none at all where it is negative or
/// no number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GrpcCodes {
    failures: u32,
    retries: u32,
}

const fn set(codes: &[GrpcCode]) -> u32 {
    let (mut bits, mut at) = (0, 0);
    while at < codes.len() {
        bits |= 1 << codes[at] as u8;
        at += 1;
    }
    bits
}

impl Default for GrpcCodes {
    fn default() -> Self {
        use GrpcCode::{DataLoss, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown};
        const FAILURES: u32 = set(&[
            Unknown,
            DeadlineExceeded,
            ResourceExhausted,
            Internal,
            Unavailable,
            DataLoss,
        ]);
        Self {
            failures: FAILURES,
            retries: set(&[ResourceExhausted, Unavailable]),
        }
    }
}

impl GrpcCodes {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which codes are failures.
    pub const fn failures(mut self, codes: &[GrpcCode]) -> Self {
        self.failures = set(codes);
        self
    }

    /// Sets which codes are retried, when the request may be sent twice.
    pub const fn retries(mut self, codes: &[GrpcCode]) -> Self {
        self.retries = set(codes);
        self
    }

    /// Whether the code is a failure.
    pub const fn is_failure(self, code: GrpcCode) -> bool {
        self.failures >> code as u8 & 1 == 1
    }

    /// Whether the code is retried, where the server does not say otherwise.
    pub const fn is_retried(self, code: GrpcCode) -> bool {
        self.retries >> code as u8 & 1 == 1
    }

    pub(super) const fn verdict(self, code: GrpcCode) -> Verdict {
        if self.is_failure(code) {
            Verdict::Failure
        } else {
            Verdict::Success
        }
    }

    /// Whether the code is retried in view of the server's pushback, and after how long where that says so.
    pub(super) fn retried(self, code: GrpcCode, headers: &HeaderMap) -> (bool, Option<Duration>) {
        if !self.is_retried(code) {
            return (false, None);
        }
        match headers.get("grpc-retry-pushback-ms") {
            None => (true, None),
            Some(value) => {
                let millis = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
                (millis.is_some(), millis.map(Duration::from_millis))
            }
        }
    }
}

impl fmt::Debug for GrpcCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |set: u32| {
            GrpcCode::ALL
                .into_iter()
                .filter(move |&code| set >> code as u8 & 1 == 1)
                .collect::<Vec<_>>()
        };
        f.debug_struct("GrpcCodes")
            .field("failures", &of(self.failures))
            .field("retries", &of(self.retries))
            .finish()
    }
}

/// The code in headers or trailers, if there is one.
pub(super) fn code_of(headers: &HeaderMap) -> Option<GrpcCode> {
    let value = headers.get("grpc-status")?;
    let number = value.to_str().ok().and_then(|text| text.parse::<usize>().ok());
    let code = number.and_then(|number| GrpcCode::ALL.get(number).copied());
    Some(code.unwrap_or(GrpcCode::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            ::http::HeaderName::from_static(name),
            ::http::HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn the_numbers_are_those_of_the_specification() {
        for (number, code) in GrpcCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
        }
        assert_eq!(
            code_of(&headers("grpc-status", "14")),
            Some(GrpcCode::Unavailable)
        );
        for odd in ["17", "-1", "many", ""] {
            assert_eq!(
                code_of(&headers("grpc-status", odd)),
                Some(GrpcCode::Unknown),
                "{odd}"
            );
        }
        assert_eq!(code_of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_failure_is_what_its_counterpart_in_http_is() {
        // google/rpc/code.proto, by number.
        let statuses = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        for (code, status) in GrpcCode::ALL.into_iter().zip(statuses) {
            let failure = status == 429 || status >= 500 && status != 501;
            assert_eq!(GrpcCodes::new().is_failure(code), failure, "{code:?}");
        }
    }

    #[test]
    fn a_pushback_is_waited_for_or_stops_the_retry() {
        let codes = GrpcCodes::new();
        let pushed = |text| codes.retried(GrpcCode::Unavailable, &headers("grpc-retry-pushback-ms", text));
        assert_eq!(pushed("250"), (true, Some(Duration::from_millis(250))));
        assert_eq!(pushed("0"), (true, Some(Duration::ZERO)));
        for no in ["-1", "soon", "1.5", "", "99999999999999999999999"] {
            assert_eq!(pushed(no), (false, None), "{no}");
        }
        assert_eq!(
            codes.retried(GrpcCode::Unavailable, &HeaderMap::new()),
            (true, None)
        );
        let pushback = headers("grpc-retry-pushback-ms", "1");
        assert_eq!(codes.retried(GrpcCode::NotFound, &pushback), (false, None));
    }
}
