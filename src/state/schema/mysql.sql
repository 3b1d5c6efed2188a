-- The reference's tables (CloudKitty 25.0.0) on MariaDB and MySQL. Those without
-- a character set take the database's, as the reference has it.
CREATE TABLE IF NOT EXISTS cloudkitty_storage_states (
  id INTEGER NOT NULL AUTO_INCREMENT,
  identifier VARCHAR(256) NOT NULL,
  scope_key VARCHAR(40),
  fetcher VARCHAR(40),
  collector VARCHAR(40),
  last_processed_timestamp DATETIME NOT NULL,
  scope_activation_toggle_date DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  active BOOLEAN NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uq_cloudkitty_storage_states_identifier (identifier, scope_key, collector, fetcher)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS storage_scope_reprocessing_schedule (
  id INTEGER NOT NULL AUTO_INCREMENT,
  identifier VARCHAR(256) NOT NULL,
  start_reprocess_time DATETIME NOT NULL,
  end_reprocess_time DATETIME NOT NULL,
  current_reprocess_time DATETIME,
  reason TEXT NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
CREATE TABLE IF NOT EXISTS modules_state (
  name VARCHAR(255) NOT NULL,
  state BOOLEAN NOT NULL,
  priority INTEGER,
  PRIMARY KEY (name)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS states (
  name VARCHAR(255) NOT NULL,
  state BIGINT NOT NULL,
  s_metadata TEXT,
  PRIMARY KEY (name)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS service_to_collector_mappings (
  service VARCHAR(255) NOT NULL,
  collector VARCHAR(255) NOT NULL,
  PRIMARY KEY (service)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS hashmap_services (
  id INTEGER NOT NULL AUTO_INCREMENT,
  service_id VARCHAR(36) NOT NULL,
  name VARCHAR(255) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uq_hashmap_services_name (name),
  UNIQUE KEY uq_hashmap_services_service_id (service_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
CREATE TABLE IF NOT EXISTS hashmap_fields (
  id INTEGER NOT NULL AUTO_INCREMENT,
  field_id VARCHAR(36) NOT NULL,
  name VARCHAR(255) NOT NULL,
  service_id INTEGER NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uq_hashmap_fields_field_id (field_id),
  UNIQUE KEY uniq_field_per_service (service_id, name),
  CONSTRAINT fk_hashmap_fields_service_id_hashmap_services FOREIGN KEY (service_id) REFERENCES hashmap_services (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
CREATE TABLE IF NOT EXISTS hashmap_groups (
  id INTEGER NOT NULL AUTO_INCREMENT,
  group_id VARCHAR(36) NOT NULL,
  name VARCHAR(255) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uq_hashmap_groups_group_id (group_id),
  UNIQUE KEY uq_hashmap_groups_name (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
CREATE TABLE IF NOT EXISTS hashmap_mappings (
  id INTEGER NOT NULL AUTO_INCREMENT,
  mapping_id VARCHAR(36) NOT NULL,
  value VARCHAR(255),
  cost DECIMAL(40,28),
  map_type ENUM('flat', 'rate') NOT NULL,
  service_id INTEGER,
  field_id INTEGER,
  group_id INTEGER,
  tenant_id VARCHAR(255),
  name VARCHAR(32) NOT NULL,
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  start DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  `end` DATETIME,
  description TEXT,
  deleted DATETIME,
  created_by VARCHAR(32) NOT NULL,
  updated_by VARCHAR(32),
  deleted_by VARCHAR(32),
  PRIMARY KEY (id),
  UNIQUE KEY uq_hashmap_mappings_mapping_id (mapping_id),
  KEY fk_hashmap_mappings_service_id_hashmap_services (service_id),
  KEY fk_hashmap_mappings_group_id_hashmap_groups (group_id),
  KEY fk_hashmap_mappings_field_id_hashmap_fields (field_id),
  CONSTRAINT fk_hashmap_mappings_field_id_hashmap_fields FOREIGN KEY (field_id) REFERENCES hashmap_fields (id) ON DELETE CASCADE,
  CONSTRAINT fk_hashmap_mappings_group_id_hashmap_groups FOREIGN KEY (group_id) REFERENCES hashmap_groups (id) ON DELETE SET NULL,
  CONSTRAINT fk_hashmap_mappings_service_id_hashmap_services FOREIGN KEY (service_id) REFERENCES hashmap_services (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
CREATE TABLE IF NOT EXISTS hashmap_thresholds (
  id INTEGER NOT NULL AUTO_INCREMENT,
  threshold_id VARCHAR(36) NOT NULL,
  level DECIMAL(20,8),
  cost DECIMAL(40,28),
  map_type ENUM('flat', 'rate') NOT NULL,
  service_id INTEGER,
  field_id INTEGER,
  group_id INTEGER,
  tenant_id VARCHAR(255),
  PRIMARY KEY (id),
  UNIQUE KEY uq_hashmap_thresholds_threshold_id (threshold_id),
  UNIQUE KEY uniq_field_threshold (level, field_id, tenant_id),
  UNIQUE KEY uniq_service_threshold (level, service_id, tenant_id),
  KEY fk_hashmap_thresholds_field_id_hashmap_fields (field_id),
  KEY fk_hashmap_thresholds_service_id_hashmap_services (service_id),
  KEY fk_hashmap_thresholds_group_id_hashmap_groups (group_id),
  CONSTRAINT fk_hashmap_thresholds_field_id_hashmap_fields FOREIGN KEY (field_id) REFERENCES hashmap_fields (id) ON DELETE CASCADE,
  CONSTRAINT fk_hashmap_thresholds_group_id_hashmap_groups FOREIGN KEY (group_id) REFERENCES hashmap_groups (id) ON DELETE SET NULL,
  CONSTRAINT fk_hashmap_thresholds_service_id_hashmap_services FOREIGN KEY (service_id) REFERENCES hashmap_services (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
CREATE TABLE IF NOT EXISTS pyscripts_scripts (
  id INTEGER NOT NULL AUTO_INCREMENT,
  script_id VARCHAR(36) NOT NULL,
  name VARCHAR(255) NOT NULL,
  data BLOB NOT NULL,
  checksum VARCHAR(128),
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  start DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  `end` DATETIME,
  description TEXT,
  deleted DATETIME,
  created_by VARCHAR(32) NOT NULL,
  updated_by VARCHAR(32),
  deleted_by VARCHAR(32),
  PRIMARY KEY (id),
  UNIQUE KEY script_id (script_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
