//! Logs: installed once, filter and format re-applied at every reload.
