//! What classes of exceptions and of predicates mean here.

use super::{report::Report, sections::Entry, values::Class};
use crate::{
    composition::settings::{Issue, Predicates, Severity},
    edges::config::resilience4j::keys::Setting,
    vocabulary::nearest::suggestion,
};

/// Failures of input and output as a whole.
const IO: &[&str] = &["io", "connect", "reset", "dns", "body"];
const CONNECT: &[&str] = &["connect"];
const DNS: &[&str] = &["dns"];
const RESET: &[&str] = &["reset"];
const TIMEOUT: &[&str] = &["timeout"];
/// Any error, and a response that counts as a failure: Spring's clients throw for those.
const ANY: &[&str] = &["error", "failure"];
const STATUS: &[&str] = &["4xx", "5xx"];
const CLIENT: &[&str] = &["4xx"];
const SERVER: &[&str] = &["5xx"];
const IO_OR_TIMEOUT: &[&str] = &["io", "connect", "reset", "dns", "body", "timeout"];
const STATUS_OR_IO: &[&str] = &["4xx", "5xx", "io", "connect", "reset", "dns", "body", "timeout"];
/// Nothing here throws it.
const NEVER: &[&str] = &[];

/// Classes that are known, and the names of predicates that they stand for.
const KNOWN: &[(&str, &[&str])] = &[
    ("java.lang.Throwable", ANY),
    ("java.lang.Exception", ANY),
    ("java.io.IOException", IO),
    ("java.io.UncheckedIOException", IO),
    ("java.util.concurrent.TimeoutException", TIMEOUT),
    ("java.net.SocketTimeoutException", TIMEOUT),
    ("java.net.http.HttpTimeoutException", TIMEOUT),
    ("java.net.http.HttpConnectTimeoutException", CONNECT),
    ("java.net.ConnectException", CONNECT),
    ("java.net.NoRouteToHostException", CONNECT),
    ("java.net.SocketException", &["connect", "reset"]),
    ("java.net.UnknownHostException", DNS),
    ("java.nio.channels.UnresolvedAddressException", DNS),
    ("java.nio.channels.ClosedChannelException", RESET),
    ("org.springframework.web.client.RestClientException", STATUS_OR_IO),
    (
        "org.springframework.web.client.RestClientResponseException",
        STATUS,
    ),
    ("org.springframework.web.client.HttpStatusCodeException", STATUS),
    ("org.springframework.web.client.HttpServerErrorException", SERVER),
    ("org.springframework.web.client.HttpClientErrorException", CLIENT),
    (
        "org.springframework.web.client.ResourceAccessException",
        IO_OR_TIMEOUT,
    ),
    (
        "org.springframework.web.reactive.function.client.WebClientException",
        STATUS_OR_IO,
    ),
    (
        "org.springframework.web.reactive.function.client.WebClientResponseException",
        STATUS,
    ),
    (
        "org.springframework.web.reactive.function.client.WebClientRequestException",
        IO_OR_TIMEOUT,
    ),
    ("feign.FeignException", STATUS_OR_IO),
    ("feign.FeignException$FeignServerException", SERVER),
    ("feign.FeignException$FeignClientException", CLIENT),
    ("feign.RetryableException", IO_OR_TIMEOUT),
    ("org.apache.http.conn.ConnectTimeoutException", CONNECT),
    ("org.apache.http.conn.HttpHostConnectException", CONNECT),
    ("org.apache.http.NoHttpResponseException", RESET),
    ("io.netty.channel.ConnectTimeoutException", CONNECT),
    ("io.netty.handler.timeout.ReadTimeoutException", TIMEOUT),
    ("reactor.netty.http.client.PrematureCloseException", RESET),
    (
        "io.github.resilience4j.circuitbreaker.CallNotPermittedException",
        &["circuit_open"],
    ),
    (
        "io.github.resilience4j.bulkhead.BulkheadFullException",
        &["bulkhead_full"],
    ),
    ("io.github.resilience4j.ratelimiter.RequestNotPermitted", NEVER),
    ("io.github.resilience4j.retry.MaxRetriesExceededException", NEVER),
];

/// Classes that have one of [`STATUSES`] within them.
const WITH_STATUSES: [&str; 4] = [
    "org.springframework.web.client.HttpServerErrorException",
    "org.springframework.web.client.HttpClientErrorException",
    "org.springframework.web.reactive.function.client.WebClientResponseException",
    "feign.FeignException",
];

const STATUSES: [(&str, &str); 17] = [
    ("BadRequest", "400"),
    ("Unauthorized", "401"),
    ("Forbidden", "403"),
    ("NotFound", "404"),
    ("MethodNotAllowed", "405"),
    ("NotAcceptable", "406"),
    ("Conflict", "409"),
    ("Gone", "410"),
    ("UnsupportedMediaType", "415"),
    ("UnprocessableEntity", "422"),
    ("UnprocessableContent", "422"),
    ("TooManyRequests", "429"),
    ("InternalServerError", "500"),
    ("NotImplemented", "501"),
    ("BadGateway", "502"),
    ("ServiceUnavailable", "503"),
    ("GatewayTimeout", "504"),
];

/// From names of classes to names of predicates.
pub(super) struct Classes<'p> {
    predicates: &'p Predicates,
    /// Names that mean nothing so far, each once.
    unmapped: Vec<String>,
}

impl<'p> Classes<'p> {
    pub(super) fn new(predicates: &'p Predicates) -> Self {
        Self {
            predicates,
            unmapped: Vec::new(),
        }
    }

    /// The names of predicates for a list of exceptions and for the class of a predicate.
    pub(super) fn of(
        &mut self,
        list: Option<&Entry>,
        class: Option<&Entry>,
        report: &mut Report,
    ) -> Vec<String> {
        let mut names = Vec::new();
        if let Some(entry) = list {
            for class in entry.classes() {
                let issue = entry
                    .error("")
                    .with_value(format!("{:?}", class.name))
                    .at(Some(class.place.clone()));
                self.add(class, issue, &mut names, report);
            }
        }
        if let Some(entry) = class {
            names.extend(self.predicate(entry, report).filter(|name| !names.contains(name)));
        }
        names
    }

    /// The same names and the predicate of results. Where nothing is listed, what is a failure anyway stays one.
    pub(super) fn with_results(
        &mut self,
        mut names: Vec<String>,
        class: Option<&Entry>,
        report: &mut Report,
    ) -> Vec<String> {
        if let Some(name) = class.and_then(|entry| self.predicate(entry, report)) {
            if names.is_empty() {
                names.push("failure".to_owned());
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Says once more, all together, which names the program has to give a meaning to.
    pub(super) fn end(self, report: &mut Report) {
        if !self.unmapped.is_empty() {
            report.say(Issue::error(
                "",
                format!(
                    "register a predicate under the name of each of these classes: {}",
                    self.unmapped.join(", ")
                ),
            ));
        }
    }

    fn is_known(&self, name: &str) -> bool {
        self.predicates.resolve(name).is_ok()
    }

    fn predicate(&mut self, entry: &Entry, report: &mut Report) -> Option<String> {
        let Setting::Name(name) = &entry.setting else {
            return None;
        };
        if !self.is_known(name) {
            report.say(entry.error("no predicate has this name; accepted: names that the program registers"));
            self.miss(name);
        }
        Some(name.clone())
    }

    fn add(&mut self, class: &Class, mut issue: Issue, names: &mut Vec<String>, report: &mut Report) {
        // The program's own meaning comes first.
        if self.is_known(&class.name) {
            if !names.contains(&class.name) {
                names.push(class.name.clone());
            }
            return;
        }
        match built_in(&class.name) {
            Some([]) => {
                issue.severity = Severity::Note;
                "it has no effect: nothing here fails with it".clone_into(&mut issue.message);
                report.say(issue);
            }
            Some(meant) => {
                let known = meant.iter().filter(|name| self.is_known(name));
                let fresh: Vec<String> = known
                    .filter(|name| !names.iter().any(|listed| listed == *name))
                    .map(|name| (*name).to_owned())
                    .collect();
                names.extend(fresh);
            }
            None => {
                let own = self.predicates.names();
                let suggestion = suggestion(&class.name, own.chain(KNOWN.iter().map(|(name, _)| *name)));
                issue.message = format!("{suggestion}no predicate has the name of this class");
                report.say(issue);
                self.miss(&class.name);
            }
        }
    }

    fn miss(&mut self, name: &str) {
        if !self.unmapped.iter().any(|known| known == name) {
            self.unmapped.push(name.to_owned());
        }
    }
}

/// What a class stands for by itself. A class within another one has `$` or `.` before its name.
fn built_in(class: &str) -> Option<&'static [&'static str]> {
    if let Some((_, names)) = KNOWN.iter().find(|(known, _)| *known == class) {
        return Some(names);
    }
    let (outer, inner) = class.rsplit_once(['$', '.'])?;
    if let Some((_, names)) = KNOWN
        .iter()
        .find(|(known, _)| known.rsplit_once('$') == Some((outer, inner)))
    {
        return Some(names);
    }
    let status = STATUSES.iter().find(|(name, _)| *name == inner)?;
    WITH_STATUSES
        .contains(&outer)
        .then_some(std::slice::from_ref(&status.1))
}
