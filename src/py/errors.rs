//! One exhaustive map from the core's errors to the Python tree, which is written in Python so that its classes can
//! have the built-in parents that people catch.

use crate::core::error::{ConfigError, LeaseError, MetricError, PickError};
use crate::core::shared::{Locked, OpenError, PublishError, ReadError, TableFull};
use crate::core::time::Nanos;
use pyo3::PyErr;

mod tree {
    pyo3::import_exception!(aibalance._errors, ConfigError);
    pyo3::import_exception!(aibalance._errors, InternalError);
    pyo3::import_exception!(aibalance._errors, LeaseError);
    pyo3::import_exception!(aibalance._errors, MetricError);
    pyo3::import_exception!(aibalance._errors, NoEndpointsError);
    pyo3::import_exception!(aibalance._errors, NoHealthyEndpointError);
    pyo3::import_exception!(aibalance._errors, OverloadedError);
    pyo3::import_exception!(aibalance._errors, PickError);
    pyo3::import_exception!(aibalance._errors, SimulationError);
}
pub(crate) use tree::{InternalError, PickError as AnyPickError, SimulationError};

impl From<ConfigError> for PyErr {
    fn from(e: ConfigError) -> PyErr {
        tree::ConfigError::new_err(e.to_string())
    }
}

impl From<PickError> for PyErr {
    fn from(e: PickError) -> PyErr {
        let text = e.to_string();
        match e {
            PickError::NoEndpoints => tree::NoEndpointsError::new_err(text),
            PickError::NoHealthyEndpoint { .. } => tree::NoHealthyEndpointError::new_err(text),
            PickError::Overloaded { retry_after } => {
                tree::OverloadedError::new_err((text, retry_after.map(Nanos::as_secs_f64)))
            }
        }
    }
}

impl From<LeaseError> for PyErr {
    fn from(e: LeaseError) -> PyErr {
        tree::LeaseError::new_err(e.to_string())
    }
}

impl From<MetricError> for PyErr {
    fn from(e: MetricError) -> PyErr {
        tree::MetricError::new_err(e.to_string())
    }
}

/// What is wrong with the memory of a shared pool. Where its name is at hand the text says that instead of "given".
fn of_memory(error: &dyn std::fmt::Display) -> PyErr {
    ConfigError::new("shared", "given", format!("memory that can be used: {error}")).into()
}

impl From<OpenError> for PyErr {
    fn from(e: OpenError) -> PyErr {
        match e {
            OpenError::Config(e) => e.into(),
            e @ (OpenError::Truncated { .. }
            | OpenError::Unfinished
            | OpenError::Foreign
            | OpenError::Version { .. }
            | OpenError::Corrupted
            | OpenError::Layout
            | OpenError::Occupied) => of_memory(&e),
        }
    }
}

impl From<ReadError> for PyErr {
    fn from(e: ReadError) -> PyErr {
        match e {
            e @ (ReadError::Changing | ReadError::Corrupted) => of_memory(&e),
        }
    }
}

impl From<PublishError> for PyErr {
    fn from(e: PublishError) -> PyErr {
        match e {
            PublishError::TooLarge { .. } => ConfigError::new("endpoints", "more", e.to_string()).into(),
            PublishError::Lost => of_memory(&e),
        }
    }
}

impl From<Locked> for PyErr {
    fn from(e: Locked) -> PyErr {
        of_memory(&e)
    }
}

impl From<TableFull> for PyErr {
    fn from(e: TableFull) -> PyErr {
        of_memory(&e)
    }
}
