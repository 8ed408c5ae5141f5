//! Large zeroed memory whose lack is an error, not the process's end.

use std::ptr::NonNull;

use infera_model::ModelError;
use memmap2::{MmapMut, MmapOptions};

/// Zeroed bytes that begin on a page.
pub(crate) struct Memory {
    map: Option<MmapMut>,
    bytes: usize,
}

impl Memory {
    /// `what` and `file` are for the error.
    pub(crate) fn zeroed(bytes: u64, what: &str, file: &str) -> Result<Self, ModelError> {
        let missing = || ModelError::Unsupported {
            file: file.to_owned(),
            what: format!("there is no memory for {bytes} bytes of {what}"),
        };
        let length = usize::try_from(bytes).map_err(|_| missing())?;
        if length == 0 {
            return Ok(Self {
                map: None,
                bytes: 0,
            });
        }
        let map = MmapOptions::new().len(length).map_anon();
        let map = map.map_err(|_| missing())?;
        // Large pages make reading faster; without them it works as well.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self {
            map: Some(map),
            bytes: length,
        })
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        match &self.map {
            Some(map) => map.as_ptr(),
            None => NonNull::<u64>::dangling().as_ptr().cast(),
        }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        match &mut self.map {
            Some(map) => map.as_mut_ptr(),
            None => NonNull::<u64>::dangling().as_ptr().cast(),
        }
    }
}

/// A pointer that several threads use at once, each on its own part.
pub(crate) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: Whoever makes a reference from the pointer promises that no other thread uses that part.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    pub(crate) fn from_ptr(pointer: *mut T) -> Self {
        Self(pointer)
    }

    pub(crate) fn ptr(self) -> *mut T {
        self.0
    }

    /// # Safety
    /// `at..at + length` lies within what the pointer was made from, and no other thread uses it.
    pub(crate) unsafe fn slice<'a>(self, at: usize, length: usize) -> &'a mut [T] {
        // SAFETY: The caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), length) }
    }
}
