-- The accounts of the plugin bank. Whatever was there is replaced.
drop table if exists transfers, accounts;

create table accounts (
    id int primary key,
    owner text not null,
    balance bigint not null check (balance >= 0)
);

create table transfers (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    source int not null references accounts,
    target int not null references accounts,
    amount bigint not null check (amount > 0),
    check (source <> target)
);

insert into accounts values (1, 'Ada', 1000), (2, 'Grace', 1000), (3, 'Hedy', 1000);
