-- The account that applies a plan and rolls it back: unhang apply, rollback.
-- It can do what the inspector can, so it serves for every verb.
-- MySQL 8.0 and newer. Run it as an administrator, after you changed the password
-- and, if you can, the host ('%' means from anywhere).

CREATE USER IF NOT EXISTS 'unhang_admin'@'%' IDENTIFIED BY 'change-me'
    WITH MAX_USER_CONNECTIONS 5;

-- All sessions, and which of them have a transaction open.
GRANT PROCESS ON *.* TO 'unhang_admin'@'%';

-- Each session's own wait_timeout, which tells old sessions from new ones after a change.
GRANT SELECT ON performance_schema.* TO 'unhang_admin'@'%';

-- SET PERSIST, SET GLOBAL and RESET PERSIST of wait_timeout and interactive_timeout.
GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO 'unhang_admin'@'%';

-- The one connection above max_connections, for the day when the server is full.
GRANT CONNECTION_ADMIN ON *.* TO 'unhang_admin'@'%';
