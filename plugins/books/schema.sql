-- The small library that the plugins books and books_then serve. Whatever was there is replaced.
drop table if exists books;

create table books (
    id bigint generated always as identity primary key,
    title text not null,
    author text not null
);

insert into books (title, author) values
    ('The Odyssey', 'Homer'),
    ('The Pillow Book', 'Sei Shōnagon'),
    ('The Tale of Genji', 'Murasaki Shikibu'),
    ('Don Quixote', 'Miguel de Cervantes'),
    ('Frankenstein', 'Mary Shelley'),
    ('Moby-Dick', 'Herman Melville'),
    ('Middlemarch', 'George Eliot'),
    ('Through the Looking-Glass', 'Lewis Carroll'),
    ('The Brothers Karamazov', 'Fyodor Dostoevsky'),
    ('The Time Machine', 'H. G. Wells'),
    ('Mrs Dalloway', 'Virginia Woolf'),
    ('Ficciones', 'Jorge Luis Borges');
