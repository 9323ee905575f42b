-- The inspector: sees, changes nothing. For: unhang diagnose, plan, verify, watch.
-- MySQL 8.0 and newer. Run it as an administrator, after you changed the password
-- and, if you can, the host ('%' means from anywhere).

CREATE USER IF NOT EXISTS 'unhang_inspector'@'%' IDENTIFIED BY 'change-me'
    WITH MAX_USER_CONNECTIONS 5;

-- All sessions, and which of them have a transaction open. Without it an account sees its own only.
GRANT PROCESS ON *.* TO 'unhang_inspector'@'%';

-- Each session's own wait_timeout, which tells old sessions from new ones after a change.
GRANT SELECT ON performance_schema.* TO 'unhang_inspector'@'%';
