//! Goal: the flows of plugins/books in Rust, without crates, over the tables of weft_tables.h alone: what a
//! binding has to do, and that nothing of the ABI needs a C compiler. abi.rs is the binding.

mod abi;

use abi::*;
use std::os::raw::c_void;

const ALL: &[u8] = b"select id, title, author from books order by id\0";
const ONE: &[u8] = b"select id, title, author from books where id = $1\0";
const COUNT: &[u8] = b"select count(*) from books\0";
/// The database reads the JSON: what is none is a 22P02, and so a 400.
const ADD: &[u8] = b"insert into books (title, author)
    select book->>'title', book->>'author' from (select $1::jsonb) as given (book)
    where jsonb_typeof(book->'title') = 'string' and book->>'title' <> ''
    and jsonb_typeof(book->'author') = 'string' and book->>'author' <> ''
    returning id, title, author\0";

/// What the flows need; made by init(), given to each handler, let go of by fini().
struct Library {
    db: Pg,
    partner: Upstream,
    all: Stmt,
    one: Stmt,
    add: Stmt,
    count: Stmt,
}

type Answer = Result<(), Status>;

/// client -> database
fn list_books(ctx: Ctx, library: &Library) -> Answer {
    let found = ctx.run(library.db, library.all, &[]);

    found.await_ok()?;
    ctx.reply_rows(200, found)
}

/// The route's book.
fn find_book(ctx: Ctx, library: &Library) -> Result<Op, Status> {
    let id: i64 = match ctx.param(b"id\0").parse() {
        Ok(id) => id,
        Err(_) => return Err(ctx.explain(E_BAD_REQUEST, "id: expected a whole number")),
    };
    let found = ctx.run(library.db, library.one, &[Value::int(id)]);

    found.await_ok()?;
    if found.rows() == 0 {
        return Err(E_NOT_FOUND);
    }
    Ok(found)
}

fn get_book(ctx: Ctx, library: &Library) -> Answer {
    let found = find_book(ctx, library)?;

    ctx.reply_row(200, found)
}

/// Adds the book that a JSON text has; `wrong` is for one that has none.
fn add(ctx: Ctx, library: &Library, book: &str, wrong: Status) -> Answer {
    let added = ctx.run(library.db, library.add, &[Value::json(book)]);

    added.await_ok()?;
    if added.rows() == 0 {
        return Err(ctx.explain(wrong, "expected title and author, two strings"));
    }
    let location = format!("{}/books/{}", ctx.mount(), added.text(0, 0));
    ctx.set_header(b"Location\0", &location)?;
    ctx.reply_row(201, added)
}

fn add_book(ctx: Ctx, library: &Library) -> Answer {
    add(ctx, library, ctx.body(), E_BAD_REQUEST)
}

/// The text that a call was answered with, where that is a 200.
fn answer_of(ctx: Ctx, call: Op) -> Result<&'static str, Status> {
    call.await_ok()?;
    if call.code() != 200 {
        return Err(ctx.explain(E_UP_RESET, &format!("the third party answered {}", call.code())));
    }
    Ok(call.body())
}

/// client -> API
fn get_quote(ctx: Ctx, library: &Library) -> Answer {
    let quote = answer_of(ctx, ctx.get(library.partner, "/quote"))?;

    ctx.reply_json(200, quote)
}

/// client -> API -> database
fn import_book(ctx: Ctx, library: &Library) -> Answer {
    let book = answer_of(ctx, ctx.get(library.partner, "/book"))?;

    add(ctx, library, book, E_UP_RESET)
}

/// client -> database -> API
fn announce_book(ctx: Ctx, library: &Library) -> Answer {
    let found = find_book(ctx, library)?;
    let call = ctx.post_json(library.partner, "/announcements", ctx.row_json(found));

    ctx.reply_json(200, answer_of(ctx, call)?)
}

/// both at once
fn get_summary(ctx: Ctx, library: &Library) -> Answer {
    let both = [ctx.run(library.db, library.count, &[]), ctx.get(library.partner, "/quote")];

    ctx.all(&both).await_ok()?;
    let quote = answer_of(ctx, both[1])?;
    let summary = format!("{{\"books\": {}, \"quote\": {}}}", both[0].text(0, 0), quote);
    ctx.reply_json(200, &summary)
}

/// A panic stays here, too.
fn panic_now(_: Ctx, _: &Library) -> Answer {
    panic!("as it should")
}

/// A handler of the ABI around one that returns a Result: no panic gets into the host.
macro_rules! handler {
    ($name:ident) => {{
        unsafe extern "C" fn call(ctx: Ctx, library: *mut c_void) -> Status {
            guarded(ctx, || $name(ctx, &*(library as *const Library)))
        }
        call
    }};
}

fn find(host: Host) -> Result<Library, Status> {
    let db = host.pool(b"main\0")?;

    Ok(Library {
        db,
        partner: host.upstream(b"thirdparty\0")?,
        all: host.declare(db, b"all\0", ALL, STMT_READ_ONLY)?,
        one: host.declare(db, b"one\0", ONE, STMT_READ_ONLY)?,
        add: host.declare(db, b"add\0", ADD, 0)?,
        count: host.declare(db, b"count\0", COUNT, STMT_READ_ONLY)?,
    })
}

fn add_routes(host: Host) -> Answer {
    host.route(b"GET\0", b"/books\0", handler!(list_books))?;
    host.route(b"GET\0", b"/books/:id\0", handler!(get_book))?;
    host.route(b"POST\0", b"/books\0", handler!(add_book))?;
    host.route(b"GET\0", b"/quote\0", handler!(get_quote))?;
    host.route(b"POST\0", b"/books/import\0", handler!(import_book))?;
    host.route(b"POST\0", b"/books/:id/announce\0", handler!(announce_book))?;
    host.route(b"GET\0", b"/summary\0", handler!(get_summary))?;
    host.route(b"GET\0", b"/panic\0", handler!(panic_now))
}

unsafe extern "C" fn init(host: Host, library: *mut *mut c_void) -> Status {
    let found = match find(host) {
        Ok(found) => found,
        Err(status) => return status,
    };
    if let Err(status) = add_routes(host) {
        return status;
    }
    *library = Box::into_raw(Box::new(found)) as *mut c_void;
    OK
}

unsafe extern "C" fn fini(library: *mut c_void) {
    drop(Box::from_raw(library as *mut Library));
}

#[no_mangle]
#[allow(non_upper_case_globals)]
pub static weft_plugin_1: Plugin = plugin(&API, b"books_rust\0", b"1.0\0", init, fini);
