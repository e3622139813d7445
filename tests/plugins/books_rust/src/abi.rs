//! The ABI 1.0 as weft_tables.h has it, and what is safe to call on it: handles are numbers that the host
//! checks, so that a wrong one is answered, not followed.

use std::os::raw::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicPtr, Ordering};

pub type Status = i32;
pub const OK: Status = 0;
pub const E_STATE: Status = -102;
pub const E_UP_RESET: Status = -403;
pub const E_BAD_REQUEST: Status = -501;
pub const E_NOT_FOUND: Status = -502;
pub const STMT_READ_ONLY: u32 = 1;
const PG_ONE_ROW: u32 = 1;
const LOG_ERROR: u32 = 0;
const V_INT: u32 = 2;
const V_JSON: u32 = 6;
const GROUP_ALL: u32 = 0;

/// Declares a handle: a pointer that is never followed.
macro_rules! handle {
    ($($name:ident)*) => { $(
        #[repr(transparent)]
        #[derive(Clone, Copy)]
        pub struct $name(*mut c_void);
    )* };
}
handle!(Host Ctx Op Pg Stmt Upstream);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    ptr: *const u8,
    len: usize,
}

#[repr(C)]
pub struct Value {
    kind: u32,
    len: u32,
    bits: u64, // the number, or the address of the bytes
}

#[repr(C)]
struct Field {
    name: Str,
    value: Str,
}

#[repr(C)]
struct Call {
    size: u32,
    flags: u32,
    method: *const u8,
    path: Str,
    body: Str,
    fields: *const Field,
    field_count: u32,
    timeout_ms: u32,
}

pub type Handler = unsafe extern "C" fn(Ctx, *mut c_void) -> Status;
type Unused = *const c_void; // an entry that is not called here

#[repr(C)]
struct Core {
    size: u32,
    reserved: u32,
    route: unsafe extern "C" fn(Host, *const u8, *const u8, Handler, *mut c_void, *const c_void) -> Status,
    settings: [Unused; 3],
    log: unsafe extern "C" fn(Ctx, u32, Str),
    to_then: [Unused; 11],
    await_: unsafe extern "C" fn(Op) -> Status,
    to_release: [Unused; 4],
    group: unsafe extern "C" fn(Ctx, u32, u32, *const Op) -> Op,
}

#[repr(C)]
struct Http {
    size: u32,
    reserved: u32,
    method: Unused,
    path: Unused,
    param: unsafe extern "C" fn(Ctx, *const u8) -> Str,
    query: Unused,
    header: Unused,
    peer: Unused,
    mount: unsafe extern "C" fn(Ctx) -> Str,
    body: unsafe extern "C" fn(Ctx) -> Str,
    explain: unsafe extern "C" fn(Ctx, Str) -> Status,
    set_header: unsafe extern "C" fn(Ctx, *const u8, Str) -> Status,
    reply: unsafe extern "C" fn(Ctx, u32, *const u8, Str) -> Status,
}

#[repr(C)]
struct Databases {
    size: u32,
    reserved: u32,
    pool: unsafe extern "C" fn(Host, *const u8, *mut Pg) -> Status,
    declare: unsafe extern "C" fn(Host, Pg, *const u8, *const u8, u32, *mut Stmt) -> Status,
    run: unsafe extern "C" fn(Ctx, Pg, Stmt, u32, *const Value) -> Op,
    transactions: [Unused; 5],
    rows: unsafe extern "C" fn(Op) -> u32,
    columns: [Unused; 4],
    text: unsafe extern "C" fn(Op, u32, u32) -> Str,
    values: [Unused; 4],
    json: unsafe extern "C" fn(Ctx, Op, u32) -> Str,
    reply: unsafe extern "C" fn(Ctx, u32, Op, u32) -> Status,
}

#[repr(C)]
struct Calls {
    size: u32,
    reserved: u32,
    upstream: unsafe extern "C" fn(Host, *const u8, *mut Upstream) -> Status,
    start: unsafe extern "C" fn(Ctx, Upstream, *const Call) -> Op,
    code: unsafe extern "C" fn(Op) -> u32,
    field: Unused,
    body: unsafe extern "C" fn(Op) -> Str,
}

#[repr(C)]
pub struct Api {
    size: u32,
    minor: u32,
    core: *const Core,
    http: *const Http,
    pg: *const Databases,
    call: *const Calls,
}

/// Where the host stores the tables before it calls init().
pub static API: AtomicPtr<Api> = AtomicPtr::new(std::ptr::null_mut());

/// The note by which a host knows the plugin before any of its code runs: ABI 1.0.
#[used]
#[link_section = ".note.weft"]
static NOTE: [u32; 7] = [5, 8, 1, u32::from_le_bytes(*b"weft"), 0, 1, 0];

#[repr(C)]
pub struct Plugin {
    magic: u32,
    size: u32,
    abi_major: u16,
    abi_minor: u16,
    flags: u32,
    name: *const u8,
    version: *const u8,
    api: *const AtomicPtr<Api>,
    init: unsafe extern "C" fn(Host, *mut *mut c_void) -> Status,
    start: Option<unsafe extern "C" fn(Ctx, *mut c_void) -> Status>,
    fini: unsafe extern "C" fn(*mut c_void),
}
unsafe impl Sync for Plugin {}

/// The descriptor. `api` is API: a const fn may not name it itself.
pub const fn plugin(
    api: &'static AtomicPtr<Api>,
    name: &'static [u8],
    version: &'static [u8],
    init: unsafe extern "C" fn(Host, *mut *mut c_void) -> Status,
    fini: unsafe extern "C" fn(*mut c_void),
) -> Plugin {
    Plugin {
        magic: 0x54464557,
        size: std::mem::size_of::<Plugin>() as u32,
        abi_major: 1,
        abi_minor: 0,
        flags: 0,
        name: name.as_ptr(),
        version: version.as_ptr(),
        api,
        init,
        start: None,
        fini,
    }
}

fn api() -> &'static Api {
    unsafe { &*API.load(Ordering::Relaxed) }
}

fn core() -> &'static Core {
    unsafe { &*api().core }
}

fn http() -> &'static Http {
    unsafe { &*api().http }
}

fn pg() -> &'static Databases {
    unsafe { &*api().pg }
}

fn calls() -> &'static Calls {
    unsafe { &*api().call }
}

fn checked(status: Status) -> Result<(), Status> {
    if status == OK {
        Ok(())
    } else {
        Err(status)
    }
}

/// A C string, which a literal must be: it ends with a NUL.
fn c(text: &'static [u8]) -> *const u8 {
    assert_eq!(text.last(), Some(&0));
    text.as_ptr()
}

fn given(text: &str) -> Str {
    Str { ptr: text.as_ptr(), len: text.len() }
}

/// Text of the host's: good until the ctx ends, which no handler outlives. Empty where it is absent or no
/// UTF-8.
fn taken(text: Str) -> &'static str {
    if text.ptr.is_null() {
        return "";
    }
    std::str::from_utf8(unsafe { std::slice::from_raw_parts(text.ptr, text.len) }).unwrap_or("")
}

/// Runs a handler; what it fails with is its status, and a panic a line in the log and a 500.
pub fn guarded(ctx: Ctx, code: impl FnOnce() -> Result<(), Status>) -> Status {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Ok(())) => OK,
        Ok(Err(status)) => status,
        Err(_) => {
            unsafe { (core().log)(ctx, LOG_ERROR, given("a panic")) };
            E_STATE
        }
    }
}

impl Value {
    pub fn int(number: i64) -> Value {
        Value { kind: V_INT, len: 0, bits: number as u64 }
    }

    /// A JSON text, which must stay until the statement was started.
    pub fn json(text: &str) -> Value {
        Value { kind: V_JSON, len: text.len() as u32, bits: text.as_ptr() as u64 }
    }
}

impl Host {
    pub fn pool(self, name: &'static [u8]) -> Result<Pg, Status> {
        let mut found = Pg(std::ptr::null_mut());
        checked(unsafe { (pg().pool)(self, c(name), &mut found) })?;
        Ok(found)
    }

    pub fn upstream(self, name: &'static [u8]) -> Result<Upstream, Status> {
        let mut found = Upstream(std::ptr::null_mut());
        checked(unsafe { (calls().upstream)(self, c(name), &mut found) })?;
        Ok(found)
    }

    pub fn declare(self, db: Pg, name: &'static [u8], sql: &'static [u8], flags: u32) -> Result<Stmt, Status> {
        let mut found = Stmt(std::ptr::null_mut());
        checked(unsafe { (pg().declare)(self, db, c(name), c(sql), flags, &mut found) })?;
        Ok(found)
    }

    pub fn route(self, method: &'static [u8], pattern: &'static [u8], handler: Handler) -> Result<(), Status> {
        let none = std::ptr::null_mut();
        checked(unsafe { (core().route)(self, c(method), c(pattern), handler, none, none) })
    }
}

impl Ctx {
    pub fn param(self, name: &'static [u8]) -> &'static str {
        taken(unsafe { (http().param)(self, c(name)) })
    }

    pub fn mount(self) -> &'static str {
        taken(unsafe { (http().mount)(self) })
    }

    pub fn body(self) -> &'static str {
        taken(unsafe { (http().body)(self) })
    }

    pub fn explain(self, status: Status, detail: &str) -> Status {
        unsafe { (http().explain)(self, given(detail)) };
        status
    }

    pub fn set_header(self, name: &'static [u8], value: &str) -> Result<(), Status> {
        checked(unsafe { (http().set_header)(self, c(name), given(value)) })
    }

    pub fn reply_json(self, code: u32, json: &str) -> Result<(), Status> {
        checked(unsafe { (http().reply)(self, code, c(b"application/json\0"), given(json)) })
    }

    pub fn reply_rows(self, code: u32, op: Op) -> Result<(), Status> {
        checked(unsafe { (pg().reply)(self, code, op, 0) })
    }

    pub fn reply_row(self, code: u32, op: Op) -> Result<(), Status> {
        checked(unsafe { (pg().reply)(self, code, op, PG_ONE_ROW) })
    }

    pub fn row_json(self, op: Op) -> &'static str {
        taken(unsafe { (pg().json)(self, op, PG_ONE_ROW) })
    }

    pub fn run(self, db: Pg, stmt: Stmt, values: &[Value]) -> Op {
        unsafe { (pg().run)(self, db, stmt, values.len() as u32, values.as_ptr()) }
    }

    pub fn all(self, ops: &[Op]) -> Op {
        unsafe { (core().group)(self, GROUP_ALL, ops.len() as u32, ops.as_ptr()) }
    }

    pub fn get(self, upstream: Upstream, path: &str) -> Op {
        self.call(upstream, b"GET\0", path, "", &[])
    }

    pub fn post_json(self, upstream: Upstream, path: &str, json: &str) -> Op {
        let kind = Field { name: given("Content-Type"), value: given("application/json") };
        self.call(upstream, b"POST\0", path, json, &[kind])
    }

    fn call(self, upstream: Upstream, method: &'static [u8], path: &str, body: &str, fields: &[Field]) -> Op {
        let call = Call {
            size: std::mem::size_of::<Call>() as u32,
            flags: 0,
            method: c(method),
            path: given(path),
            body: given(body),
            fields: fields.as_ptr(),
            field_count: fields.len() as u32,
            timeout_ms: 0,
        };
        unsafe { (calls().start)(self, upstream, &call) }
    }
}

impl Op {
    pub fn await_ok(self) -> Result<(), Status> {
        checked(unsafe { (core().await_)(self) })
    }

    pub fn rows(self) -> u32 {
        unsafe { (pg().rows)(self) }
    }

    pub fn text(self, row: u32, column: u32) -> &'static str {
        taken(unsafe { (pg().text)(self, row, column) })
    }

    pub fn code(self) -> u32 {
        unsafe { (calls().code)(self) }
    }

    pub fn body(self) -> &'static str {
        taken(unsafe { (calls().body)(self) })
    }
}

