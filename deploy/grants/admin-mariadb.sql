-- The account that applies a plan and rolls it back: unhang apply, rollback.
-- It can do what the inspector can, so it serves for every verb.
-- MariaDB 10.5 and newer. Run it as an administrator, after you changed the password
-- and, if you can, the host ('%' means from anywhere).

CREATE USER IF NOT EXISTS 'unhang_admin'@'%' IDENTIFIED BY 'change-me'
    WITH MAX_USER_CONNECTIONS 5;

-- All sessions, and which of them have a transaction open.
GRANT PROCESS ON *.* TO 'unhang_admin'@'%';

-- SET GLOBAL wait_timeout and interactive_timeout. MariaDB has no smaller privilege for these two.
-- It is a powerful one: lock the account when you do not need it (ALTER USER ... ACCOUNT LOCK).
GRANT SUPER ON *.* TO 'unhang_admin'@'%';

-- The one connection above max_connections, for the day when the server is full.
GRANT CONNECTION ADMIN ON *.* TO 'unhang_admin'@'%';
