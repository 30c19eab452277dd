//! The end of a `ServiceBuilder` chain that says what is wrong with it.

use tower::{Layer, Service, ServiceBuilder};

/// Finishes a [`ServiceBuilder`] chain with a check that the errors can hold rejections.
///
/// `.service(inner)` takes any service, and one whose error cannot hold a rejection shows only later, where
/// `.ready()` or `.call()` are "not found". `.guarded_service(inner)` says so at once, and says which line to add.
///
/// ```
/// use buttress::{ServiceBuilderExt, Timeout, TimeoutLayer};
/// use tower::{BoxError, ServiceBuilder, service_fn};
///
/// let timeout = Timeout::with_defaults("files")?;
/// let service = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(timeout))
///     .guarded_service(service_fn(|path: String| async move { Ok::<_, BoxError>(path.len()) }));
/// # fn assert_service<S: tower::Service<String>>(_: &S) {}
/// # assert_service(&service);
/// # Ok::<(), buttress::ConfigError>(())
/// ```
pub trait ServiceBuilderExt<L> {
    /// Wraps `inner` in the layers, when its error can hold a rejection; where not, the compiler says what to
    /// add.
    fn guarded_service<S, Req>(self, inner: S) -> L::Service
    where
        L: Layer<S>,
        S: Service<Req>,
        L::Service: Service<Req>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn guarded_service<S, Req>(self, inner: S) -> L::Service
    where
        L: Layer<S>,
        S: Service<Req>,
        L::Service: Service<Req>,
    {
        self.service(inner)
    }
}
