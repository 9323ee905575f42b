"""The ENGINE for MySQL and MariaDB whose connections are held only while they are used."""
