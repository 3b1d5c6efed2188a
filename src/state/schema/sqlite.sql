-- The reference's tables (CloudKitty 25.0.0) on SQLite, where its own
-- cloudkitty-dbsync fails. Costs and levels are text: SQLite would turn a
-- NUMERIC column into floats and lose digits.
CREATE TABLE IF NOT EXISTS cloudkitty_storage_states (
  id INTEGER NOT NULL PRIMARY KEY,
  identifier VARCHAR(256) NOT NULL,
  scope_key VARCHAR(40),
  fetcher VARCHAR(40),
  collector VARCHAR(40),
  last_processed_timestamp DATETIME NOT NULL,
  scope_activation_toggle_date DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  active BOOLEAN NOT NULL,
  CONSTRAINT uq_cloudkitty_storage_states_identifier UNIQUE (identifier, scope_key, collector, fetcher)
);
CREATE TABLE IF NOT EXISTS storage_scope_reprocessing_schedule (
  id INTEGER NOT NULL PRIMARY KEY,
  identifier VARCHAR(256) NOT NULL,
  start_reprocess_time DATETIME NOT NULL,
  end_reprocess_time DATETIME NOT NULL,
  current_reprocess_time DATETIME,
  reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS modules_state (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  state BOOLEAN NOT NULL,
  priority INTEGER
);
CREATE TABLE IF NOT EXISTS states (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  state BIGINT NOT NULL,
  s_metadata TEXT
);
CREATE TABLE IF NOT EXISTS service_to_collector_mappings (
  service VARCHAR(255) NOT NULL PRIMARY KEY,
  collector VARCHAR(255) NOT NULL
);
CREATE TABLE IF NOT EXISTS hashmap_services (
  id INTEGER NOT NULL PRIMARY KEY,
  service_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_services_service_id UNIQUE,
  name VARCHAR(255) NOT NULL CONSTRAINT uq_hashmap_services_name UNIQUE
);
CREATE TABLE IF NOT EXISTS hashmap_fields (
  id INTEGER NOT NULL PRIMARY KEY,
  field_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_fields_field_id UNIQUE,
  name VARCHAR(255) NOT NULL,
  service_id INTEGER NOT NULL REFERENCES hashmap_services (id) ON DELETE CASCADE,
  CONSTRAINT uniq_field_per_service UNIQUE (service_id, name)
);
CREATE TABLE IF NOT EXISTS hashmap_groups (
  id INTEGER NOT NULL PRIMARY KEY,
  group_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_groups_group_id UNIQUE,
  name VARCHAR(255) NOT NULL CONSTRAINT uq_hashmap_groups_name UNIQUE
);
CREATE TABLE IF NOT EXISTS hashmap_mappings (
  id INTEGER NOT NULL PRIMARY KEY,
  mapping_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_mappings_mapping_id UNIQUE,
  value VARCHAR(255),
  cost TEXT,
  map_type VARCHAR(4) NOT NULL CHECK (map_type IN ('flat', 'rate')),
  service_id INTEGER REFERENCES hashmap_services (id) ON DELETE CASCADE,
  field_id INTEGER REFERENCES hashmap_fields (id) ON DELETE CASCADE,
  group_id INTEGER REFERENCES hashmap_groups (id) ON DELETE SET NULL,
  tenant_id VARCHAR(255),
  name VARCHAR(32) NOT NULL,
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  start DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "end" DATETIME,
  description TEXT,
  deleted DATETIME,
  created_by VARCHAR(32) NOT NULL,
  updated_by VARCHAR(32),
  deleted_by VARCHAR(32)
);
CREATE TABLE IF NOT EXISTS hashmap_thresholds (
  id INTEGER NOT NULL PRIMARY KEY,
  threshold_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_thresholds_threshold_id UNIQUE,
  level TEXT,
  cost TEXT,
  map_type VARCHAR(4) NOT NULL CHECK (map_type IN ('flat', 'rate')),
  service_id INTEGER REFERENCES hashmap_services (id) ON DELETE CASCADE,
  field_id INTEGER REFERENCES hashmap_fields (id) ON DELETE CASCADE,
  group_id INTEGER REFERENCES hashmap_groups (id) ON DELETE SET NULL,
  tenant_id VARCHAR(255),
  CONSTRAINT uniq_field_threshold UNIQUE (level, field_id, tenant_id),
  CONSTRAINT uniq_service_threshold UNIQUE (level, service_id, tenant_id)
);
CREATE TABLE IF NOT EXISTS pyscripts_scripts (
  id INTEGER NOT NULL PRIMARY KEY,
  script_id VARCHAR(36) NOT NULL CONSTRAINT script_id UNIQUE,
  name VARCHAR(255) NOT NULL,
  data BLOB NOT NULL,
  checksum VARCHAR(128),
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  start DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "end" DATETIME,
  description TEXT,
  deleted DATETIME,
  created_by VARCHAR(32) NOT NULL,
  updated_by VARCHAR(32),
  deleted_by VARCHAR(32)
);
