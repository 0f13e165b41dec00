//! The page at `/`: our own markup, styles and scripts, and the charts' library. Nothing is loaded from elsewhere,
//! which a content policy enforces in the browser. What it shares with the page of a run (`report/html.rs`) is in
//! `assets/page/base.css` and `assets/page/charts.js`.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::response::IntoResponse;

/// `GET /`.
pub(super) async fn html() -> impl IntoResponse {
    file("text/html; charset=utf-8", include_str!("../../../assets/page/index.html"))
}

/// `GET /page.css`.
pub(super) async fn css() -> impl IntoResponse {
    file("text/css; charset=utf-8", STYLES)
}

/// `GET /page.js`.
pub(super) async fn js() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", SCRIPTS)
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let about: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        // A new version has a new page.
        (CACHE_CONTROL, "no-cache"),
    ];
    (about, text)
}

/// Scripts and styles only from our own files, none inline; no forms, no frames, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLES: &str = concat!(
    include_str!("../../../assets/uplot/uPlot.min.css"),
    include_str!("../../../assets/page/base.css"),
    include_str!("../../../assets/page/page.css"),
);
/// The licence of the library is served with it.
const SCRIPTS: &str = concat!(
    "/*\n",
    include_str!("../../../assets/uplot/LICENSE"),
    "*/\n",
    include_str!("../../../assets/uplot/uPlot.iife.min.js"),
    include_str!("../../../assets/page/charts.js"),
    include_str!("../../../assets/page/page.js"),
);
