//! Prompts: from Python values to the hashes of their blocks.

use crate::core::error::ConfigError;
use crate::core::llm::{Prompt, blocks};
use crate::py::door::shown;
use crate::py::keys::Hashed;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::buffer::{Element, PyUntypedBuffer};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyString, PyTuple};

const ALLOWED: &str = "block hashes (a one-dimensional array of uint64), token ids (a list, a tuple or an array of other \
                       integers, 0 to 2**32-1), a text, bytes, one block hash (an int or Hashed), or None";

/// How many bytes of text stand for a token: the usual rule of thumb.
const TEXT: u64 = 4;

/// The blocks of a prompt, where they lie or as they were made.
enum Blocks<'py> {
    Lent(PyReadonlyArray1<'py, u64>),
    Made(Vec<u64>),
}

/// A prompt.
pub(super) struct Read<'py> {
    blocks: Blocks<'py>,
    /// Tokens, those in no block too.
    pub tokens: u64,
}

impl<'py> Read<'py> {
    /// Reads a prompt; None is one of a single token that nobody has.
    pub fn new(prompt: Option<&Bound<'py, PyAny>>, block: u64) -> PyResult<Read<'py>> {
        let Some(prompt) = prompt.filter(|p| !p.is_none()) else {
            return Ok(Read { blocks: Blocks::Made(Vec::new()), tokens: 1 });
        };
        if let Ok(array) = prompt.cast::<PyArray1<u64>>()
            && let Ok(array) = array.try_readonly()
        {
            let blocks = match array.as_slice() {
                Ok(_) => Blocks::Lent(array),
                Err(_) => Blocks::Made(array.as_array().to_vec()),
            };
            return Ok(Read::of_blocks(blocks, block));
        }
        let mut out = Vec::new();
        if let Ok(list) = prompt.cast::<PyList>() {
            let ids = list.iter().map(|id| token(&id)).collect::<PyResult<Vec<u32>>>()?;
            return Ok(Read::of_tokens(&ids, block));
        }
        if let Ok(tuple) = prompt.cast::<PyTuple>() {
            let ids = tuple.iter().map(|id| token(&id)).collect::<PyResult<Vec<u32>>>()?;
            return Ok(Read::of_tokens(&ids, block));
        }
        let text = if let Ok(text) = prompt.cast::<PyString>() {
            Some(text.to_str().map_err(|_| refusal(prompt))?.as_bytes())
        } else {
            prompt.cast::<PyBytes>().ok().map(|bytes| bytes.as_bytes())
        };
        if let Some(text) = text {
            blocks::of_bytes(text, block.saturating_mul(TEXT) as usize, &mut out);
            let tokens = (text.len() as u64).div_ceil(TEXT);
            return Ok(Read { blocks: Blocks::Made(out), tokens });
        }
        if let Ok(ready) = prompt.cast::<Hashed>() {
            return Ok(Read::of_blocks(Blocks::Made(vec![ready.get().0]), block));
        }
        if prompt.is_instance_of::<PyInt>() {
            let hash = prompt.extract::<u64>().or_else(|_| prompt.extract::<i64>().map(|n| n as u64));
            return Ok(Read::of_blocks(Blocks::Made(vec![hash.map_err(|_| refusal(prompt))?]), block));
        }
        Read::of_buffer(prompt, block)
    }

    fn of_buffer(prompt: &Bound<'py, PyAny>, block: u64) -> PyResult<Read<'py>> {
        let py = prompt.py();
        let untyped = PyUntypedBuffer::get(prompt).map_err(|_| refusal(prompt))?;
        if untyped.dimensions() != 1 {
            return Err(refusal(prompt));
        }
        if let Ok(hashes) = read::<u64>(py, &untyped) {
            return Ok(Read::of_blocks(Blocks::Made(hashes), block));
        }
        if let Ok(ids) = read::<u32>(py, &untyped) {
            return Ok(Read::of_tokens(&ids, block));
        }
        let ids: Option<Vec<u32>> = if let Ok(ids) = read::<i64>(py, &untyped) {
            ids.into_iter().map(|id| u32::try_from(id).ok()).collect()
        } else if let Ok(ids) = read::<i32>(py, &untyped) {
            ids.into_iter().map(|id| u32::try_from(id).ok()).collect()
        } else if let Ok(ids) = read::<u16>(py, &untyped) {
            Some(ids.into_iter().map(u32::from).collect())
        } else {
            None
        };
        ids.map(|ids| Read::of_tokens(&ids, block)).ok_or_else(|| refusal(prompt))
    }

    fn of_blocks(blocks: Blocks<'py>, block: u64) -> Read<'py> {
        let mut read = Read { blocks, tokens: 0 };
        read.tokens = (read.blocks().len() as u64).saturating_mul(block);
        read
    }

    fn of_tokens(ids: &[u32], block: u64) -> Read<'py> {
        let mut out = Vec::new();
        blocks::of_tokens(ids, block as usize, &mut out);
        Read { blocks: Blocks::Made(out), tokens: ids.len() as u64 }
    }

    /// The hashes of the blocks.
    pub fn blocks(&self) -> &[u64] {
        match &self.blocks {
            Blocks::Lent(array) => array.as_slice().unwrap_or(&[]),
            Blocks::Made(hashes) => hashes,
        }
    }

    /// The same as a policy reads it.
    pub fn prompt(&self) -> Prompt<'_> {
        Prompt { blocks: self.blocks(), tokens: self.tokens }
    }

    /// The hashes, owned.
    pub fn into_blocks(self) -> Vec<u64> {
        match self.blocks {
            Blocks::Lent(array) => array.as_slice().unwrap_or(&[]).to_vec(),
            Blocks::Made(hashes) => hashes,
        }
    }
}

fn read<T: Element + Default>(py: Python<'_>, buffer: &PyUntypedBuffer) -> PyResult<Vec<T>> {
    buffer.as_typed::<T>()?.to_vec(py)
}

fn token(id: &Bound<'_, PyAny>) -> PyResult<u32> {
    id.extract::<u32>()
        .map_err(|_| ConfigError::new("prompt", shown(id), "token ids, whole numbers from 0 to 2**32-1").into())
}

fn refusal(prompt: &Bound<'_, PyAny>) -> PyErr {
    ConfigError::new("prompt", shown(prompt), ALLOWED).into()
}
