//! A model server that somebody else started, as the daemon finds it: its address, what it is, and a catalog made
//! from what it lists.

use std::io;

use reqwest::Url;
use tiershift_core::catalog::{Catalog, CatalogError};
use tiershift_core::units::Bytes;

use crate::backend::remote::client::ServerError;
use crate::backend::remote::entry::Entry;
use crate::backend::remote::server::Server;
use crate::inventory::gguf::Dimensions;
use crate::inventory::guess::Step;

/// A model server on this machine.
#[derive(Clone, Debug)]
pub struct RemoteServer {
    pub(crate) server: Server,
    pub(crate) listed: Vec<Entry>,
    url: String,
}

impl RemoteServer {
    /// Finds out which server answers at an address, and what it has.
    ///
    /// # Errors
    /// An address that is not on this machine, or where nothing that is known answers.
    pub fn find(url: &str) -> Result<Self, ListingError> {
        let refuse = || ListingError::Url { url: url.to_owned() };
        // As it stands in the settings of clients.
        let base = url.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let parsed = Url::parse(base).map_err(|_| refuse())?;
        let is_near = parsed.host_str().is_some_and(|host| {
            host == "localhost"
                || host
                    .trim_matches(['[', ']'])
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        });
        if parsed.scheme() != "http" || !is_near {
            return Err(refuse());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ListingError::Runtime)?;
        let found = runtime.block_on(async {
            let client = crate::backend::http::http_client().map_err(|_| ServerError::Away)?;
            let server = Server::recognise(client, &parsed).await?;
            let listed = server.list().await?;
            Ok((server, listed))
        });
        let (server, listed) =
            found.map_err(|source| ListingError::ServerError { url: url.to_owned(), source })?;
        Ok(Self { server, listed, url: url.to_owned() })
    }

    /// Returns which server it is, for people.
    pub fn name(&self) -> &'static str {
        self.server.kind().name()
    }

    /// Returns a ladder of the models that it lists, the largest on top.
    ///
    /// # Errors
    /// Where it has none, or does not report the size of one.
    pub fn catalog(&self) -> Result<Catalog, ListingError> {
        let mut sizes = self
            .listed
            .iter()
            .filter(|entry| !entry.embeds_only)
            .map(|entry| match size(entry) {
                Some(size) => Ok((size, entry)),
                None => Err(ListingError::NoSize {
                    server: self.name(),
                    url: self.url.clone(),
                    model: entry.name.clone(),
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        sizes.sort_by_key(|(size, entry)| (*size, &entry.name));
        let count = sizes.len();
        let models = sizes.into_iter().enumerate().map(|(place, (size, entry))| {
            let dimensions = entry.file.as_ref().and_then(|file| Dimensions::read(file).ok());
            Step { place, count }.model(&entry.name, size, &dimensions.unwrap_or_default())
        });
        Ok(Catalog::new(models.collect())?)
    }
}

/// Returns the size of a model's weights: as its server says, or of its file, where that can be read.
fn size(entry: &Entry) -> Option<Bytes> {
    let of_file = || Some(Bytes::new(std::fs::metadata(entry.file.as_ref()?).ok()?.len()));
    entry.size.or_else(of_file)
}

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ListingError {
    #[error(
        "`{url}` is not the address of a server on this machine: give one such as http://127.0.0.1:11434"
    )]
    Url { url: String },
    #[error("no model server is found at {url}: start it, or check the address")]
    ServerError { url: String, source: ServerError },
    #[error(
        "{server} at {url} does not report the size of \"{model}\": say more of its models with --catalog"
    )]
    NoSize { server: &'static str, url: String, model: String },
    #[error("the system gives no threads")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}
